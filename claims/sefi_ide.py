"""SeFi-IDE's claims on the pocket world: the checks F1 to F8 of its reconstruction.

python -m claims.sefi_ide --work runs/claims/sefi_ide --subjects 6 --steps 300

F1, F2, F3, F4 and F7 are exact and need the base model only. F5 (the weight of the attention loss), F6 (pairs of key
and value) and F8 (focus of attention) compare runs that differ in one setting. Runs that are not in the work folder yet
are trained into it first, so a command that was stopped goes on. With ``--seeds 3`` there are three trainings of each.

What is compared is paired over subjects and trainings. A claim holds, does not hold (an effect of the margin in
``claims/margins.yaml`` is excluded), or is open. Prints a table and exits 1 unless all claims hold.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from claims.attention_focus import attention_focus
from claims.checks import Check, keeps, less, report, require_positive
from claims.enrolled import ProtocolSampler, RunMeasurements, enrolled
from claims.measurements import Values
from claims.stage_reductions import exact_checks
from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import cache_folder
from datamodules.index import load_photos
from datamodules.sources import find_shards
from leaderboard.generate.generation import PromptOnly
from lightning_modules.sefi_ide import SefiIDE
from pocket.models import paths
from training.mistakes import one_line

WEIGHTS = (0.0001, 0.001, 0.003, 0.01, 0.05)
PAIRS = (1, 3, 5, 7, 10)
EDITS = ("attribute", "action", "accessory")
"""Classes of prompts that ask for something at the face itself."""


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, in its order, and the base model without the subject (``floor``)."""

    names: list[str]
    measured: list[RunMeasurements]
    floor: RunMeasurements

    @property
    def identity(self) -> list[Values]:
        return [one.identity for one in self.measured]

    @property
    def prompt(self) -> list[Values]:
        """Share that is kept of the prompt fit of the base model."""
        return self._kept(("all",))

    @property
    def edits(self) -> list[Values]:
        """The same where something at the face is asked for."""
        return self._kept(EDITS)

    def _kept(self, classes: Sequence[str]) -> list[Values]:
        whole = np.mean([self.floor.prompt[name].mean() for name in classes])
        return [np.mean([one.prompt[name] for name in classes], axis=0) / whole for one in self.measured]

    def __str__(self) -> str:
        head = f"{'run':<26}{'identity':>10}{'prompt':>10}{'edits':>10}"
        rows = zip(self.names, *map(_means, (self.identity, self.prompt, self.edits)), strict=True)
        return "\n".join([head, *(f"{name:<26}{i:10.3f}{p:10.3f}{e:10.3f}" for name, i, p, e in rows)])


def weight_checks(sweep: Sweep) -> list[Check]:
    """F5: with the weight, prompt fit rises and identity falls; the ends are far apart."""
    identity = sweep.identity
    prompt = sweep.prompt
    lighter, heavier = _largest_rise(_means(identity))
    fuller, emptier = _largest_rise([-mean for mean in _means(prompt)])
    return [
        keeps("F5 identity never rises with the weight", identity[lighter], identity[heavier], "identity"),
        keeps("F5 prompt fit never falls with the weight", prompt[emptier], prompt[fuller], "prompt_kept"),
        less("F5 the heaviest weight gives less identity than the lightest", identity[-1], identity[0], "identity"),
        less("F5 the lightest weight keeps less of the prompt than the heaviest", prompt[0], prompt[-1], "prompt_kept"),
    ]


def pair_checks(sweep: Sweep) -> list[Check]:
    """F6: five pairs render edits better than one; ten lose identity against five."""
    one, five, ten = (sweep.names.index(f"{count} pairs") for count in (1, 5, 10))
    return [
        less("F6 one pair follows edits less well than five", sweep.edits[one], sweep.edits[five], "prompt_kept"),
        less("F6 ten pairs keep less identity than five", sweep.identity[ten], sweep.identity[five], "identity"),
    ]


def focus_check(ours: Values, inversion: Values) -> Check:
    """F8, of the shares (S,) of the token's attention that lie on the subject."""
    return less("F8 the token of textual inversion looks at the subject less than ours", inversion, ours, "rate")


def _means(columns: Sequence[Values]) -> list[float]:
    """Over the subjects and trainings."""
    return [float(column.mean()) for column in columns]


def _largest_rise(values: list[float]) -> tuple[int, int]:
    """Indices of an earlier and a later value of which the later one lies most above the earlier."""
    pairs = [(i, j) for j in range(len(values)) for i in range(j)]
    return max(pairs, key=lambda pair: values[pair[1]] - values[pair[0]])


def test_subjects(count: int) -> list[str]:
    """The first subjects of pocket10k's test split."""
    photos = load_photos(find_shards("pocket10k"), cache_folder())
    return sorted({photo.subject_id for photo in photos if photo.split == "test"})[:count]


def trained_checks(work: Path, count: int, steps: int, samples: int, seeds: int) -> list[Check]:
    """F5, F6 and F8, on the runs in ``work``, ``seeds`` trainings of each."""
    subjects = test_subjects(count)
    sampler = ProtocolSampler(subjects, samples, resolution=64)

    def run(name: str, **settings: object) -> list[SefiIDE]:
        chosen = {"data.enrolment.steps": steps} | {f"model.{key}": value for key, value in settings.items()}
        more = [{"seed_everything": seed} for seed in range(1, seeds)]
        return [enrolled(work, name, subjects, chosen | seed) for seed in ({}, *more)]

    floor = sampler.measure(PromptOnly(str(paths.BASE)))

    def sweep(runs: dict[str, list[SefiIDE]]) -> Sweep:
        measured = [RunMeasurements.stacked([sampler.measure(module) for module in arm]) for arm in runs.values()]
        return Sweep(list(runs), measured, floor)

    weighted = {f"weight {weight}": run(f"weight-{weight}", attention_weight=weight) for weight in WEIGHTS}
    ours = weighted["weight 0.003"]  # the configuration's own weight, with its five pairs
    weights = sweep(weighted)
    pairs = sweep({f"{pair} pairs": ours if pair == 5 else run(f"pairs-{pair}", stages=pair) for pair in PAIRS})
    inversion = run("inversion", stages=1, key_value="shared", attention_weight=0.0)
    print(weights, pairs, sweep({"textual inversion": inversion}), sep="\n")
    focus = [np.stack([attention_focus(module, subjects) for module in arm]) for arm in (ours, inversion)]
    return [
        *weight_checks(weights),
        *pair_checks(pairs),
        focus_check(*focus),
    ]


@as_command
def main() -> int:
    """Run the command and return its exit code: 0, 1 where a claim does not hold, or 2 after one line about a mistake
    of the user."""
    parser = argparse.ArgumentParser(prog="python -m claims.sefi_ide", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work", type=Path, help="folder for the runs that are compared; without it F5, F6, F8 are left out"
    )
    parser.add_argument("--subjects", type=int, default=6, help="test subjects to enrol in each run")
    parser.add_argument("--steps", type=int, default=300, help="optimisation steps per subject")
    parser.add_argument("--samples", type=int, default=1, help="images per subject, prompt and run")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each run, with seeds from 0 on")
    arguments = parser.parse_args()
    try:
        require_positive(arguments, ("subjects", "steps", "samples", "seeds"))
        checks = exact_checks(str(paths.BASE))
        if arguments.work:
            numbers = (arguments.subjects, arguments.steps, arguments.samples, arguments.seeds)
            checks += trained_checks(arguments.work, *numbers)
    except Exception as error:
        if (mistake := one_line(error)) is None:
            raise
        raise LikenessError(mistake) from error
    return report(checks, "" if arguments.work else "F5, F6, F8 (--work)")


if __name__ == "__main__":
    sys.exit(main())

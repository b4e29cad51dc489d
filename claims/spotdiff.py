"""SpotDiff's directional claims on the pocket world.

python -m claims.spotdiff --run runs/spotdiff --without runs/spotdiff-none
python -m claims.spotdiff --run runs/a0 runs/a1 runs/a2 --without runs/b0 runs/b1 runs/b2

D1 (S1 and S2): linear probes for pose, background, clothes and subject on f, z_p, z_b, z_s and the identity tokens, on
test subjects that the probe has not seen; beside it the same of the run without the constraint. S3: how far the
reference's background, pose and clothes show up in the images, with the orthogonality constraint (``--run``) and
without it (``--without``, the same configuration with ``--model.orthogonality none``), at equal identity. Control: with
``model.control``, what z_p or z_b of the reference does when it is given back, and what it leaves alone. Both options
take several trainings of one configuration, which differ in their seeds and are paired in the order given.

What is compared is paired over subjects and trainings. A claim holds, does not hold (an effect of the margin in
``claims/margins.yaml`` is excluded), or is open. Prints tables and exits 1 unless all claims hold.
"""

import argparse
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from claims.checks import Check, Compared, keeps, less, report, require_positive
from claims.leakage import FactorReader, LeakageMeasurements, TestSet, load_test_set, measure_leakage
from claims.margins import Measure
from claims.measurements import Values
from claims.probes import Table, chances, probe_table, stacked, table_text
from claims.run_pair import check_arms
from contracts.commands import as_command
from contracts.errors import LikenessError
from lightning_modules.run import Run
from lightning_modules.spotdiff import SpotDiff
from networks.face_analysis import FacePack
from pocket.models import paths

SCALES = (0.5, 0.75, 1.0)
LEAKAGE: dict[str, Measure] = {"background": "rate", "pose": "correlation", "clothes": "rate"}
CONTROLS = ("pose", "background")
"""What of the reference can be given back."""
Sweep = list[LeakageMeasurements]
"""A run at every scale."""
Controlled = dict[str, list[LeakageMeasurements]]
"""Every run by what is given back."""


def probe_checks(table: Table) -> list[Check]:
    """S1: z_s forgets pose and background and keeps the subject; S2: each expert reads its own factor best."""
    f, z_p, z_b, z_s = (table[name] for name in ("f", "z_p", "z_b", "z_s"))
    kept, whole = float(z_s["subject"].mean()), float(f["subject"].mean())
    pose, background = float(z_p["pose"].mean()), float(z_b["background"].mean())
    return [
        less("S1 pose is read worse from z_s than from f", z_s["pose"], f["pose"], "rate"),
        less("S1 background is read worse from z_s than from f", z_s["background"], f["background"], "rate"),
        Check("S1 the subject probe drops by less than 2 points from f to z_s", kept, whole, kept > whole - 0.02),
        Check("S2 pose from z_p is above 90 %", pose, 0.9, pose > 0.9),
        Check("S2 background from z_b is above 90 %", background, 0.9, background > 0.9),
        less("S2 pose is read worse from z_b than from z_p", z_b["pose"], z_p["pose"], "rate"),
        less("S2 background is read worse from z_p than from z_b", z_p["background"], z_b["background"], "rate"),
    ]


def leakage_sweeps(runs: list[SpotDiff], data: TestSet, samples: int) -> list[Sweep]:
    """Each run's images at every scale, measured."""
    faces = FacePack(paths.FACES_B, paths.DET_SIZE)
    reader = FactorReader(data)
    return [[measure_leakage(run, scale, data, reader, faces, samples) for scale in SCALES] for run in runs]


def compare_leakage(constrained: list[Sweep], free: list[Sweep]) -> list[Compared]:
    """S3 at equal identity: leakage is read off each run's scale sweep at the highest identity that all reach.

    And identity itself at full scale, which the constraint must not cost.
    """
    common = min(max(point.identity for point in sweep) for sweep in (*constrained, *free))
    checks = []
    for factor, measure in LEAKAGE.items():
        on, off = (np.stack([_leakage_at(common, sweep, factor) for sweep in sweeps]) for sweeps in (constrained, free))
        checks.append(less(f"S3 {factor} leaks less with the constraint, at identity {common:.3f}", on, off, measure))
    on, off = (np.stack([sweep[-1].identities for sweep in sweeps]) for sweeps in (constrained, free))
    return [*checks, keeps("S3 and identity is kept at full scale", on, off, "identity")]


def controlled(runs: list[SpotDiff], data: TestSet, samples: int) -> Controlled:
    """Each run at full scale, by the factor of the reference that is given back, ``nothing`` first."""
    faces = FacePack(paths.FACES_B, paths.DET_SIZE)
    reader = FactorReader(data)
    gifts: dict[str, dict[str, float]] = {"nothing": {}} | {name: {name: 1.0} for name in CONTROLS}
    return {
        name: [measure_leakage(run, 1.0, data, reader, faces, samples, keep) for run in runs]
        for name, keep in gifts.items()
    }


def compare_control(found: Controlled) -> list[Compared]:
    """What is given back shows up, and neither the other factor nor identity moves."""

    def values(gift: str, factor: str) -> NDArray[np.float64]:
        return np.stack([run.identities if factor == "identity" else run.leakage[factor] for run in found[gift]])

    checks = []
    for gift, other in (CONTROLS, CONTROLS[::-1]):
        plain, given = {}, {}
        for factor in (gift, other, "identity"):
            plain[factor], given[factor] = values("nothing", factor), values(gift, factor)
        checks += [
            less(f"control: the {gift} is the reference's less without its z", plain[gift], given[gift], LEAKAGE[gift]),
            keeps(f"control: the {other} stays with z of the {gift}", plain[other], given[other], LEAKAGE[other]),
            keeps(f"control: identity is kept with z of the {gift}", given["identity"], plain["identity"], "identity"),
        ]
    return checks


def control_text(found: Controlled) -> str:
    """Means over subjects and trainings by what is given back, as text."""
    names = ("identity", *LEAKAGE)
    lines = [f"{'given back':<17}" + "".join(f"{name:>12}" for name in names)]
    for gift, runs in found.items():
        values = [np.mean([p.identity for p in runs]), *(np.mean([p.leakage[f].mean() for p in runs]) for f in LEAKAGE)]
        lines.append(f"{gift:<17}" + "".join(f"{value:12.3f}" for value in values))
    return "\n".join(lines)


def _leakage_at(identity: float, sweep: Sweep, factor: str) -> Values:
    """Each subject's leakage (S,), interpolated linearly between the two scales around an identity."""
    points = sorted(sweep, key=lambda point: point.identity)
    known = [point.identity for point in points]
    return np.array([np.interp(identity, known, row) for row in np.stack([p.leakage[factor] for p in points], axis=1)])


def leakage_text(title: str, sweeps: list[Sweep]) -> str:
    """Means over subjects and trainings at every scale, and what chance gives, as text."""
    names = ("identity", *LEAKAGE)
    lines = [f"{title:<17}" + "".join(f"{name:>12}" for name in names)]
    for scale, points in zip(SCALES, zip(*sweeps, strict=True), strict=True):
        values = [
            np.mean([p.identity for p in points]),
            *(np.mean([p.leakage[factor].mean() for p in points]) for factor in LEAKAGE),
        ]
        lines.append(f"{f'scale {scale:g}':<17}" + "".join(f"{value:12.3f}" for value in values))
    guessed = [np.mean([sweep[-1].chance[factor] for sweep in sweeps]) for factor in LEAKAGE]
    return "\n".join([*lines, f"{'chance':<17}{'':>12}" + "".join(f"{value:12.3f}" for value in guessed)])


def load_spotdiff(folder: str) -> SpotDiff:
    run = Run(folder).load()
    if not isinstance(run, SpotDiff) or set(run.experts) != {"pose", "background"}:
        raise LikenessError(f"{folder!r} is no SpotDiff run with both experts: give a run with pose and background")
    return run


@as_command
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claims.spotdiff", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", nargs="+", required=True, help="runs trained with the constraint, one per seed")
    parser.add_argument(
        "--without", nargs="+", help="as many trained with --model.orthogonality none; without them S3 is left out"
    )
    parser.add_argument("--samples", type=int, default=4, help="images per test subject, scale and run")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="val to choose settings on")
    arguments = parser.parse_args()
    require_positive(arguments, ("samples",))
    check_arms(arguments.run, arguments.without or [], "orthogonality", "none")
    runs = [load_spotdiff(folder) for folder in arguments.run]
    others = [load_spotdiff(folder) for folder in arguments.without or []]
    data = load_test_set(runs[0].backbone.resolution, arguments.split)
    guessed = chances(data)
    arms = {"with": runs, "without": others} if others else {"with": runs}
    tables = {name: stacked([probe_table(run, data) for run in arm]) for name, arm in arms.items()}
    checks = probe_checks(tables["with"])
    sweeps = {name: leakage_sweeps(arm, data, arguments.samples) for name, arm in arms.items() if others}
    if sweeps:
        checks += compare_leakage(sweeps["with"], sweeps["without"])
    gifts = controlled(runs, data, arguments.samples) if all(run.control for run in runs) else {}
    if gifts:
        checks += compare_control(gifts)
    for name, table in tables.items():
        print(table_text(f"probes, {name}", table, guessed))
    for name, arm in sweeps.items():
        print(leakage_text(f"leakage, {name}", arm))
    if gifts:
        print(control_text(gifts))
    left_out = ["S3 (--without)"] * (not others) + ["control (--run with model.control)"] * (not gifts)
    return report(checks, ", ".join(left_out))


if __name__ == "__main__":
    sys.exit(main())

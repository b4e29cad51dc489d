"""PIDiff's directional claims on the pocket world, and those of the W+ mechanism that it is built on.

python -m claims.pidiff --run runs/pidiff --directions runs/directions.safetensors --without runs/pidiff-nodis

Exact: scale 0 is the base model (W1), the tokens of the mean code (W2), parameter counts at Stable Diffusion 1.5 scale
(W3), how new weights begin and which ones learn (W4), no disentanglement loss for an unchanged code (W5). Measured on
test subjects: the sweep of identity's strength (W6), edits with (``--run``) and without (``--without``, the same
configuration with ``--model.disentanglement_weight 0``) the disentanglement loss (W7), delayed identity (W8), edits of
the fine rows (P1), another person at the same seed (P2), style mixing (P3). Both options take several trainings of one
configuration, which differ in their seeds and are paired in the order given; the exact claims and the sweeps are of the
first one. W6 to W8 and P2 compare the change outside the head, which is the mean absolute difference of pixels. That
measure is ours; LPIPS is the usual choice.

Two edits or two arms are paired over subjects and trainings. A claim holds, does not hold (an effect of the margin in
``claims/margins.yaml`` is excluded; changes of pixels and turns of the head have no margin), or is open. Prints a table
and exits 1 unless all claims hold.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from claims.checks import Check, less, report, require_positive
from claims.edited import REWORDED, EditMeasurements, EditSampler, of_rows, settings, stacked, unchanged
from claims.measurements import pose_reader
from claims.pidiff_exact import exact_checks
from claims.run_pair import check_arms
from contracts.commands import as_command
from contracts.errors import LikenessError
from datamodules.subjects import load_subjects
from lightning_modules.pidiff import PIDiff
from networks.face_analysis import FacePack
from networks.sampler import SamplingSettings
from pocket.models import paths
from tools.edit_faces.editor import Editor, people_of
from tools.edit_faces.edits import CROSSOVERS

SCALES = (0.0, 0.3, 0.6, 1.0)
DELAYS = (0.0, 0.1, 0.2, 0.4)
NOISE = 0.01
"""Differences of identity or of images below this are noise."""
STRENGTHS = (-2.0, 2.0)


def sweep_checks(sampler: EditSampler) -> tuple[dict[str, EditMeasurements], list[Check]]:
    """W6 and W8: strength and delay of identity, measured against the base model's images."""
    run = sampler.editor.module
    rows: dict[str, EditMeasurements] = {}
    with settings(run, scale=0.0):
        base = sampler.generate(run, unchanged)
    for scale in SCALES:
        with settings(run, scale=scale):
            rows[f"scale {scale:g}"] = sampler.measure(sampler.generate(run, unchanged), base)
    for delay in DELAYS:
        with settings(run, delay=delay):
            rows[f"delay {delay:g}"] = sampler.measure(sampler.generate(run, unchanged), base)
    return rows, compare_sweeps([rows[f"scale {s:g}"] for s in SCALES], [rows[f"delay {d:g}"] for d in DELAYS])


def compare_sweeps(scales: Sequence[EditMeasurements], delays: Sequence[EditMeasurements]) -> list[Check]:
    """The smallest step of each sweep in the claimed direction. A step back within the noise does not count."""
    identity, change = ([shown.mean(name) for shown in scales] for name in ("identity", "outside"))
    delayed, nearer = ([-shown.mean(name) for shown in delays] for name in ("identity", "outside"))
    return [
        _rises("W6 identity does not fall with scale: smallest step", identity),
        _rises("W6 the background does not come nearer to the base with scale: smallest step", change),
        _rises("W8 identity does not rise with the delay: smallest step", delayed),
        _rises("W8 the background comes nearer to the base with the delay: smallest step", nearer),
    ]


def edit_checks(
    samplers: Sequence[EditSampler], free: Sequence[PIDiff]
) -> tuple[dict[str, EditMeasurements], list[Check]]:
    """W7 and P1 to P3, with a sampler for each training. ``free`` are those without the disentanglement loss; without
    any W7 and P2 are left out."""
    first = samplers[0]
    rows = {"base: a shirt is named": _reworded(first, first.editor.module)}
    rows |= stacked([_edited(sampler, sampler.editor.module, "with") for sampler in samplers])
    checks = compare_edits(rows, first.poses.error)
    if free:
        pairs = zip(samplers, free, strict=True)
        rows |= stacked([_edited(sampler, other, "without") for sampler, other in pairs])
        checks += compare_runs(rows)
    return rows, checks


def _reworded(sampler: EditSampler, run: PIDiff) -> EditMeasurements:
    """How far words about the clothes change the base model's images at the same seed, for comparison with P1."""
    with settings(run, scale=0.0):
        return sampler.measure(sampler.generate(run, unchanged, REWORDED), sampler.generate(run, unchanged))


def _edited(sampler: EditSampler, run: PIDiff, name: str) -> dict[str, EditMeasurements]:
    """Every edit against the unedited image of the same run and noise."""
    last = run.code_shape[0]
    fine = (CROSSOVERS["fine"], last)
    base = sampler.generate(run, unchanged)
    rows = {f"{name}: unedited": sampler.measure(base, base)}
    rows[f"{name}: another person"] = sampler.measure(sampler.generate(run, of_rows(0, last)), base, whose=1)
    for direction in sampler.editor.directions.values():
        for s in STRENGTHS:
            images = sampler.generate(run, lambda own, _, d=direction, s=s: d.apply(own[None], s)[0])  # type: ignore[misc]
            rows[f"{name}: {direction.name}{s:+g}"] = sampler.measure(images, base)
    if name == "with":
        for level, first in CROSSOVERS.items():
            rows[f"mix {level}"] = sampler.measure(sampler.generate(run, of_rows(first, last)), base)
        rows["coarse rows, equal step"] = sampler.measure(sampler.generate(run, of_rows(0, 4, norm_of=fine)), base)
    return rows


def compare_edits(rows: Mapping[str, EditMeasurements], still: float) -> list[Check]:
    """P1 and P3, and C4: the fine rows carry less of the identity than a coarse step of equal length.

    A head that turned by less than ``still`` degrees counts as still.
    """
    fine = rows["mix fine"]
    coarse = rows["coarse rows, equal step"]
    unedited = rows["with: unedited"].identity
    colour = fine.mean("colour")
    turn = fine.mean("turn")
    return [
        Check("P1 an edit of the fine rows changes the head's colour", colour, NOISE, colour > NOISE),
        Check(
            "P1 and leaves the pose: degrees by which the head turned, and the reader's error",
            turn,
            still,
            turn < still,
        ),
        less("P1 fine rows turn the head less than coarse ones", fine.turn, coarse.turn),
        less(
            "C4 fine rows cost less identity than coarse ones",
            unedited - fine.identity,
            unedited - coarse.identity,
            "identity",
        ),
        less(
            "P3 mixing in the fine rows costs less identity than from the middle on",
            unedited - fine.identity,
            unedited - rows["mix middle"].identity,
            "identity",
        ),
    ]


def compare_runs(rows: Mapping[str, EditMeasurements]) -> list[Check]:
    """W7 over all attribute edits, P2 for another person: what changes outside the head, with the loss and without."""
    names = [name.removeprefix("with: ") for name in rows if name.startswith("with: ") and name[-2:-1] in "+-"]
    on, off = (np.mean([rows[f"{run}: {name}"].outside for name in names], axis=0) for run in ("with", "without"))
    swap_on, swap_off = (rows[f"{run}: another person"] for run in ("with", "without"))
    return [
        less("W7 edits change less outside the head with the disentanglement loss", on, off),
        less("P2 another person changes less outside the head with it", swap_on.outside, swap_off.outside),
        less(
            "P2 and a smaller part of the change is outside",
            swap_on.outside / np.maximum(swap_on.inside, 1e-9),
            swap_off.outside / np.maximum(swap_off.inside, 1e-9),
        ),
    ]


def _rises(claim: str, values: Sequence[float]) -> Check:
    step = float(np.diff(values).min())
    return Check(claim, step, -NOISE, step > -NOISE and values[-1] > values[0])


def load_pidiff(folder: str, sampling: SamplingSettings) -> PIDiff:
    """A run of PIDiff; raises ``LikenessError`` for any other."""
    editor = Editor(folder, None, FacePack(paths.FACES_B, paths.DET_SIZE), sampling)
    return editor.module


@as_command
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claims.pidiff", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", nargs="+", required=True, help="runs of the shipped configuration, one per seed")
    parser.add_argument("--directions", type=Path, required=True, help="file of python -m tools.find_directions")
    parser.add_argument("--without", nargs="+", help="as many with --model.disentanglement_weight 0; else no W7 and P2")
    parser.add_argument("--subjects", type=int, default=12, help="test subjects")
    parser.add_argument("--samples", type=int, default=2, help="images per subject and setting")
    arguments = parser.parse_args()
    sampling = SamplingSettings()
    require_positive(arguments, ("subjects", "samples"))
    faces = FacePack(paths.FACES_B, paths.DET_SIZE)
    editors = [Editor(run, arguments.directions, faces, sampling) for run in arguments.run]
    editor = editors[0]
    for run, one in zip(arguments.run, editors, strict=True):
        if not one.module.disentanglement_weight:
            raise LikenessError(
                f"--run: {run} was trained without the disentanglement loss (model.disentanglement_weight "
                "0): it belongs to --without, beside a run with the loss"
            )
    check_arms(arguments.run, arguments.without or [], "disentanglement_weight", 0)
    free = [load_pidiff(folder, sampling) for folder in arguments.without or []]
    people = people_of("pocket10k", arguments.subjects, editor.module.backbone.resolution, editor.faces)
    checks = exact_checks(editor.module, str(editor.module.hparams["backbone"]))
    photos = load_subjects("pocket10k", arguments.subjects, editor.module.backbone.resolution)
    poses = pose_reader(editor.faces, photos)
    samplers = [EditSampler(one, people, arguments.samples, poses) for one in editors]
    swept, more = sweep_checks(samplers[0])
    edited, rest = edit_checks(samplers, free)
    print(f"{'':<28}" + "".join(f"{name:>10}" for name in EditMeasurements.__dataclass_fields__))
    for name, row in {**swept, **edited}.items():
        print(f"{name:<28}" + "".join(f"{row.mean(field):10.3f}" for field in EditMeasurements.__dataclass_fields__))
    return report([*checks, *more, *rest], "" if free else "W7, P2 (--without)")


if __name__ == "__main__":
    sys.exit(main())

"""PIDiff's directional claims, and those of the W+ mechanism that it stands on, on the pocket world.

python -m claims.pidiff --run runs/pidiff --directions runs/directions.safetensors --without runs/pidiff-nodis

Exact: scale 0 is the base model (W1), the code of nobody (W2), parameter counts at Stable Diffusion 1.5 scale (W3), how
new weights begin and which ones learn (W4), no disentanglement loss for an unchanged code (W5). Measured on test
subjects: the sweep of identity's strength (W6), edits with (``--run``) and without (``--without``, the same
configuration with ``--model.disentanglement_weight 0``) the disentanglement loss (W7), delayed identity (W8), edits of
the fine rows (P1), another person at the same seed (P2), style mixing (P3). What compares two edits or two runs is a
paired test over subjects; two that cannot be told apart leave the claim open. The change outside the head that W6 to
W8 and P2 compare is the mean absolute difference of pixels, a measure of ours: LPIPS is the usual choice. Prints a
table and exits 1 when a claim is wrong or open.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from claims.checks import Check, less, line
from claims.edited import PROMPT, REWORDED, Shown, Stage, of_rows, settings, unchanged
from claims.head_pose import pose_reader
from claims.run_pair import check_pair
from contracts.batch import FaceBatch, PairBatch
from contracts.errors import LikenessError
from contracts.prompts import PLACEHOLDER
from datamodules.subjects import load_subjects
from leaderboard.generate.generators import PromptOnly
from lightning_modules.pidiff import PIDiff
from networks.attention import cross_attention_layers
from networks.keyed_noise import keyed_normal
from networks.residual_attention import ResidualProjections, install_residual_attention
from networks.sampler import SamplingSettings
from networks.wplus_mapper import WPlusMapper
from pocket.models import paths
from tools.edit_faces.editor import Editor, people_of
from tools.edit_faces.edits import CROSSOVERS, draw_codes

SCALES = (0.0, 0.3, 0.6, 1.0)
DELAYS = (0.0, 0.1, 0.2, 0.4)
NOISE = 0.01
"""Differences of identity or of images below this are noise (sheet, section 7.3)."""
STRENGTHS = (-2.0, 2.0)


def exact_checks(editor: Editor, backbone: str) -> list[Check]:
    """W1 to W5, which hold to the last bit or not at all."""
    run = editor.module
    return [*base_checks(run, backbone), *mapper_checks(run), *learning_checks(run)]


def base_checks(run: PIDiff, backbone: str) -> list[Check]:
    """W1: without identity every pixel is the base model's, drawn by stock attention."""
    floor = PromptOnly(backbone)
    floor.sampling = run.sampling
    codes = keyed_normal((2, *run.code_shape), "claims", "codes")
    with settings(run, scale=0.0):
        ours = draw_codes(run, codes, PROMPT, "person", ("claims", 0))
    base = draw_codes(floor, codes, PROMPT, "person", ("claims", 0))  # type: ignore[arg-type]
    return [_equal("W1 pixels that differ from the base model at scale 0", float((ours != base).sum()), 0.0)]


def mapper_checks(run: PIDiff) -> list[Check]:
    """W2 and W3: the tokens of nobody, and the published sizes for the four-group form."""
    with torch.no_grad():
        nobody = run.mapper(run.mapper.mean[None])
        far = float((nobody - run.mapper.norm.bias).abs().max())
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        mapper = WPlusMapper(18, 512, 768, "four")
    return [
        _equal("W2 distance of the tokens of nobody from the norm's bias", far, 0.0),
        _equal("W3 parameters of the projector at SD1.5 scale", _count(mapper), 7_079_424),
        _equal("W3 parameters of the attention at SD1.5 scale", _count(install_residual_attention(unet)), 31_559_680),
    ]


def learning_checks(run: PIDiff) -> list[Check]:
    """W4 and W5, on a fresh module with the run's settings and a batch of noise."""
    fresh = PIDiff(run.backbone, **{k: v for k, v in run.hparams.items() if k not in ("backbone", "revision")})
    layers = zip(cross_attention_layers(run.backbone.unet).values(), fresh.attention.values(), strict=True)
    residual = isinstance(next(iter(fresh.attention.values())), ResidualProjections)
    names = ("to_q", "to_k", "to_v") if residual else ("to_k", "to_v")
    far = max(
        float((getattr(attn, name).weight - getattr(new, name).weight).detach().abs().max())
        for attn, new in layers
        for name in names
    )
    pairs = _noise_batch(fresh)
    faces = FaceBatch(**{name: getattr(pairs, name) for name in FaceBatch.__dataclass_fields__})
    first, second = (_learning(fresh, batch) for batch in (faces, pairs))
    everything = {name for name, _ in fresh.adapter().named_parameters()}
    kept = ("to_q",) * (not fresh.train_query) + ("mapper",) * (not fresh.train_mapper)
    tuned = {name for name in everything if not any(part in name for part in kept)}
    with torch.no_grad():
        same = fresh.loss_terms(replace(pairs, other=pairs.reference))["disentanglement"]
    install_back(run)
    return [
        _equal("W4 distance of new weights from the layers' own before step 1", far, 0.0),
        _equal("W4 weights that learn in stage 1 and should not, or the other way round", len(first ^ everything), 0),
        _equal("W4 weights that learn in stage 2 and should not, or the other way round", len(second ^ tuned), 0),
        _equal("W5 disentanglement loss of an unchanged code", float(same), 0.0),
    ]


def install_back(run: PIDiff) -> None:
    """Give the backbone that ``run`` shares with another module the processors of ``run`` again."""
    processors = dict(run.backbone.unet.attn_processors)
    for name, layer in run.attention.items():
        processor = processors[f"{name.replace('-', '.')}.processor"]
        processor.projections = layer
    run.backbone.unet.set_attn_processor(processors)


def _learning(module: PIDiff, batch: PairBatch | FaceBatch) -> set[str]:
    """Names of the weights that a step gives a gradient; those of the frozen backbone are among them if they get
    one."""
    module.zero_grad()
    torch.stack(list(module.loss_terms(batch).values())).sum().backward()
    found = {name for name, p in module.adapter().named_parameters() if p.grad is not None}
    return found | {f"backbone.{name}" for name, p in module.backbone.named_parameters() if p.grad is not None}


def _noise_batch(module: PIDiff, size: int = 2) -> PairBatch:
    channels, height, width = module.backbone.latent_shape
    text = module.backbone.encode_text([PROMPT.replace(PLACEHOLDER, "person")] * size)

    def normal(*shape: int) -> torch.Tensor:
        return keyed_normal((size, *shape), "claims", shape)

    return PairBatch(
        sample_ids=tuple(map(str, range(size))),
        moments=normal(2 * channels, height, width),
        latent_noise=normal(channels, height, width),
        noise=normal(channels, height, width),
        timestep=torch.tensor([100, 700])[:size],
        text_states=text,
        drop_identity=torch.zeros(size, dtype=torch.bool),
        reference={"wplus": normal(*module.code_shape)},
        second_view={},
        mask=torch.ones(size, 1, height, width),
        face=torch.full((size, 1, height, width), 0.5),
        other={"wplus": normal(*module.code_shape).flip(0)},
    )


def sweep_checks(stage: Stage) -> tuple[dict[str, Shown], list[Check]]:
    """W6 and W8: strength and delay of identity, measured against the base model's images."""
    run = stage.editor.module
    rows: dict[str, Shown] = {}
    with settings(run, scale=0.0):
        base = stage.draw(run, unchanged)
    for scale in SCALES:
        with settings(run, scale=scale):
            rows[f"scale {scale:g}"] = stage.show(stage.draw(run, unchanged), base)
    for delay in DELAYS:
        with settings(run, delay=delay):
            rows[f"delay {delay:g}"] = stage.show(stage.draw(run, unchanged), base)
    return rows, compare_sweeps([rows[f"scale {s:g}"] for s in SCALES], [rows[f"delay {d:g}"] for d in DELAYS])


def compare_sweeps(scales: Sequence[Shown], delays: Sequence[Shown]) -> list[Check]:
    """The smallest step of each sweep in the direction claimed; steps within the noise are no steps back."""
    identity, change = ([shown.mean(name) for shown in scales] for name in ("identity", "outside"))
    delayed, nearer = ([-shown.mean(name) for shown in delays] for name in ("identity", "outside"))
    return [
        _rises("W6 identity does not fall with scale: smallest step", identity),
        _rises("W6 the background does not come nearer to the base with scale: smallest step", change),
        _rises("W8 identity does not rise with the delay: smallest step", delayed),
        _rises("W8 the background comes nearer to the base with the delay: smallest step", nearer),
    ]


def edit_checks(stage: Stage, free: PIDiff | None) -> tuple[dict[str, Shown], list[Check]]:
    """W7 and P1 to P3; without ``free``, the run without the disentanglement loss, W7 and P2 are left out."""
    run = stage.editor.module
    rows = {"base: a shirt is named": _reworded(stage, run)}
    rows |= _edited(stage, run, "with")
    checks = compare_edits(rows, stage.poses.error)
    if free is not None:
        rows |= _edited(stage, free, "without")
        checks += compare_runs(rows)
    return rows, checks


def _reworded(stage: Stage, run: PIDiff) -> Shown:
    """What words about the clothes change in the base model's images: how far its layout hangs on a seed (for P1)."""
    with settings(run, scale=0.0):
        return stage.show(stage.draw(run, unchanged, REWORDED), stage.draw(run, unchanged))


def _edited(stage: Stage, run: PIDiff, name: str) -> dict[str, Shown]:
    """Every edit against the unedited image of the same run and noise."""
    last = run.code_shape[0]
    fine = (CROSSOVERS["fine"], last)
    base = stage.draw(run, unchanged)
    rows = {f"{name}: unedited": stage.show(base, base)}
    rows[f"{name}: another person"] = stage.show(stage.draw(run, of_rows(0, last)), base, whose=1)
    for direction in stage.editor.directions.values():
        for s in STRENGTHS:
            images = stage.draw(run, lambda own, _, d=direction, s=s: d.apply(own[None], s)[0])  # type: ignore[misc]
            rows[f"{name}: {direction.name}{s:+g}"] = stage.show(images, base)
    if name == "with":
        for level, first in CROSSOVERS.items():
            rows[f"mix {level}"] = stage.show(stage.draw(run, of_rows(first, last)), base)
        rows["coarse rows, equal step"] = stage.show(stage.draw(run, of_rows(0, 4, norm_of=fine)), base)
    return rows


def compare_edits(rows: Mapping[str, Shown], still: float) -> list[Check]:
    """P1 and P3 (and C4: the fine rows carry less of the identity than a coarse step of equal length).

    A head that turned by less than ``still`` degrees has not been seen to turn.
    """
    fine, coarse, unedited = rows["mix fine"], rows["coarse rows, equal step"], rows["with: unedited"].identity
    colour, turn = fine.mean("colour"), fine.mean("turn")
    return [
        Check("P1 an edit of the fine rows changes the head's colour", colour, NOISE, colour > NOISE),
        Check(
            "P1 and leaves the pose: degrees by which the head turned, and the reader's error",
            turn,
            still,
            turn < still,
        ),
        less("P1 fine rows turn the head less than coarse ones", fine.turn, coarse.turn),
        less("C4 fine rows cost less identity than coarse ones", unedited - fine.identity, unedited - coarse.identity),
        less(
            "P3 mixing in the fine rows costs less identity than from the middle on",
            unedited - fine.identity,
            unedited - rows["mix middle"].identity,
        ),
    ]


def compare_runs(rows: Mapping[str, Shown]) -> list[Check]:
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


def _count(module: nn.Module) -> float:
    return float(sum(parameter.numel() for parameter in module.parameters()))


def _equal(claim: str, left: float, right: float) -> Check:
    return Check(claim, left, right, left == right)


def _rises(claim: str, values: Sequence[float]) -> Check:
    step = float(np.diff(values).min())
    return Check(claim, step, -NOISE, step > -NOISE and values[-1] > values[0])


def load_pidiff(folder: str, sampling: SamplingSettings) -> PIDiff:
    """A run of PIDiff; raises ``LikenessError`` for any other."""
    editor = Editor(folder, None, str(paths.FACES_B), sampling)
    return editor.module


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claims.pidiff", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, help="run trained by the shipped configuration")
    parser.add_argument("--directions", type=Path, required=True, help="file of python -m tools.find_directions")
    parser.add_argument("--without", help="run trained with --model.disentanglement_weight 0; else no W7 and P2")
    parser.add_argument("--subjects", type=int, default=12, help="test subjects")
    parser.add_argument("--samples", type=int, default=2, help="images per subject and setting")
    arguments = parser.parse_args()
    sampling = SamplingSettings()
    try:
        for name in ("subjects", "samples"):
            if getattr(arguments, name) < 1:
                raise LikenessError(f"--{name} is {getattr(arguments, name)}, it must be at least 1")
        editor = Editor(arguments.run, arguments.directions, str(paths.FACES_B), sampling)
        if not editor.module.disentanglement_weight:
            raise LikenessError(
                f"--run: {arguments.run} was trained without the disentanglement loss (model.disentanglement_weight "
                "0): it belongs to --without, beside a run with the loss"
            )
        if arguments.without:
            check_pair(Path(arguments.run), Path(arguments.without), "disentanglement_weight", 0)
        free = load_pidiff(arguments.without, sampling) if arguments.without else None
        people = people_of("pocket10k", arguments.subjects, editor.module.backbone.resolution, editor.faces)
        checks = exact_checks(editor, str(editor.module.hparams["backbone"]))
        photos = load_subjects("pocket10k", arguments.subjects, editor.module.backbone.resolution)
        stage = Stage(editor, people, arguments.samples, pose_reader(editor.faces, photos))
        swept, more = sweep_checks(stage)
        edited, rest = edit_checks(stage, free)
    except LikenessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'':<28}" + "".join(f"{name:>10}" for name in Shown.__dataclass_fields__))
    for name, row in {**swept, **edited}.items():
        print(f"{name:<28}" + "".join(f"{row.mean(field):10.3f}" for field in Shown.__dataclass_fields__))
    for check in (*checks, *more, *rest):
        print(line(check))
    if free is None:
        print("left out: W7, P2 (--without)")
    return 0 if all(check.holds for check in (*checks, *more, *rest)) else 1


if __name__ == "__main__":
    sys.exit(main())

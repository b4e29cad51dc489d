"""Both sides of every row: our step and the plain loop's, on networks of their own."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from contracts.batch import PairBatch
from contracts.text import Text
from leaderboard.results.image_files import ImageWriter
from lightning_modules.base import PersonalisationModule
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.pidiff import PIDiff
from lightning_modules.sefi_ide import SefiIDE
from lightning_modules.spotdiff import SpotDiff
from lightning_modules.textual_inversion import TextualInversion
from metrics.judges import Judges
from networks.backbone import Backbone, lay_out_for
from networks.compiling import compile_blocks
from networks.precision import hold_frozen
from networks.sampler import SamplingSettings
from networks.subject_slots import clip_each
from performance.accelerator import plain
from performance.accelerator.counts import Step
from performance.accelerator.measuring import Figures, Machine, freed, largest, measured, timed
from performance.accelerator.shapes import Shape, random_backbone, random_image_encoder
from performance.batched_enrolment import batch as subject_batch
from performance.models import pair_batch, request_batch
from performance.three_forwards import noise_batch
from pocket.models.paths import CLIP, DET_SIZE, FACES_A, FACES_B

CODE = (18, 512)
PROMPT = "a photo of a person on a beach"
Sides = dict[str, Figures]
"""``ours`` and ``plain``, and others beside them by name."""


@dataclass(frozen=True)
class Case:
    """What a row is measured with. Without ``size`` it is the batch that gives the most images a second."""

    shape: Shape
    size: int | None = 1
    compiled: bool = False


def spotdiff(backbone: Backbone, shape: Shape) -> SpotDiff:
    """At the size of ``configs/spotdiff.yaml``."""
    return SpotDiff(backbone, shape.image["hidden_size"])


def pidiff(backbone: Backbone, shape: Shape) -> PIDiff:
    """At the size of ``configs/pidiff.yaml``."""
    return PIDiff(backbone, *CODE)


def pairs(module: PersonalisationModule, size: int, shape: Shape, text: Text) -> PairBatch:
    """Cached features of noise, and texts as they are cached."""
    if isinstance(module, SpotDiff):
        batch = pair_batch(module, size, shape.image["hidden_size"])
    else:
        assert isinstance(module, PIDiff)
        batch = noise_batch(module, size)
    return replace(batch, text_states=text.expand(size)).to(text.device)


def training(machine: Machine, case: Case, make: Callable[[Backbone, Shape], PersonalisationModule]) -> Sides:
    """An encoder method's step on cached features; the plain loop encodes the same batch online."""
    shape, device = case.shape, machine.device
    with freed():
        module = make(random_backbone(shape, device), shape).to(device).train()
        text = module.backbone.encode_text([PROMPT])
        settle(module, machine, case.compiled)

        def step_of(size: int) -> Step:
            return training_step(machine, module, pairs(module, size, shape, text))

        size = case.size or (largest(machine, step_of, first=4) if machine.timed else 2)
        backbone = module.backbone
        sides = {"ours": measured(machine, step_of(size), size, backbone, backbone, compiled=case.compiled)}
        del module, backbone
    with freed():
        module, images = make(random_backbone(shape, device), shape).to(device), random_image_encoder(shape, device)
        step, frozen = plain.adapter_step(module, pairs(module, size, shape, text), images, machine.dtype)
        try:
            sides["plain"] = measured(machine, step, size, frozen, module.backbone, images, plain=True)
        except torch.OutOfMemoryError:
            sides["plain"] = {}  # it takes more memory than there is at a size that ours is at home with
    return sides


def settle(module: PersonalisationModule, machine: Machine, compiled: bool) -> None:
    """What ``train.py`` does to the base model before the first step."""
    if machine.dtype is not None:
        hold_frozen(module.backbone, machine.dtype)
    lay_out_for(module.backbone, machine.device)
    if compiled:
        compile_blocks(module.backbone.unet)


def training_step(machine: Machine, module: PersonalisationModule, batch: Any) -> Step:
    """Loss, gradients, clipping and update, as Lightning calls them."""
    groups = module.parameter_groups()
    trained = [p for group in groups for p in group["params"] if p.requires_grad]
    optimiser = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    together = len(batch.group) if isinstance(module, PerSubjectModule) else 1

    def step() -> None:
        with machine.autocast():
            loss = torch.stack(list(module.loss_terms(batch).values())).sum() * together
        loss.backward()
        if isinstance(module, PerSubjectModule):
            clip_each(trained, 1.0)
        else:
            nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def sefi_ide(backbone: Backbone, shape: Shape) -> SefiIDE:
    """At the size of ``configs/sefi_ide.yaml``, its attention loss at half of the latents' side."""
    return SefiIDE(backbone, attention_side=shape.unet["sample_size"] // 2)


def textual_inversion(backbone: Backbone, shape: Shape) -> TextualInversion:
    """The paper's one vector."""
    return TextualInversion(backbone)


def enrolling(machine: Machine, case: Case, make: Callable[[Backbone, Shape], PerSubjectModule]) -> Sides:
    """One subject's step, one of 16 subjects in a batch, and the plain loop of textual inversion."""
    sides = {}
    for name, count in (("ours", 1), ("of 16", 16)):
        with freed():
            module = make(random_backbone(case.shape, machine.device), case.shape)
            subjects = tuple(f"s{i:04d}" for i in range(count))
            module.prepare(dict.fromkeys(subjects, "person"), count, seed=0)
            module.start_group(subjects)
            module.to(machine.device).train()
            settle(module, machine, case.compiled)
            step = training_step(machine, module, subject_batch(module, subjects, 0).to(machine.device))
            sides[name] = measured(machine, step, count, module.backbone, module.backbone, compiled=case.compiled)
            del module, step
    with freed():
        backbone = random_backbone(case.shape, machine.device)
        step = plain.textual_inversion_step(backbone, machine.dtype, machine.device)
        sides["plain"] = measured(machine, step, 1, backbone, backbone, plain=True)
    return sides


def generating(machine: Machine, case: Case, steps: int = 25) -> Sides:
    """Images of a batch end to end, files included; the plain loop is the stock pipeline."""
    size, steps = case.size or 16, steps if machine.timed else 2
    with tempfile.TemporaryDirectory() as folder, freed():
        module = spotdiff(random_backbone(case.shape, machine.device), case.shape).to(machine.device)
        module.eval().requires_grad_(False)
        module.sampling = SamplingSettings("dpm-solver++", steps, 7.5)
        text = module.backbone.encode_text([PROMPT]).expand(size).to("cpu")
        settle(module, machine, case.compiled)
        if machine.dtype is not None:
            hold_frozen(module, machine.dtype)
        requests = replace(request_batch(module, size, case.shape.image["hidden_size"]), text_states=text)
        with ImageWriter() as writer:
            step = _drawing(machine, module, requests, writer, Path(folder))
            sides = {"ours": measured(machine, step, size, module, module.backbone, compiled=case.compiled)}
        del module, step
    with tempfile.TemporaryDirectory() as folder, freed(), torch.inference_mode():
        backbone = random_backbone(case.shape, machine.device)
        step = plain.generate(backbone, [PROMPT] * size, steps, machine.dtype, Path(folder))
        sides["plain"] = measured(machine, step, size, backbone, backbone, plain=True)
    return sides


def _drawing(machine: Machine, module: PersonalisationModule, requests: Any, writer: ImageWriter, folder: Path) -> Step:
    requests = requests.pin_memory() if machine.device.type == "cuda" else requests

    def step() -> None:
        with machine.autocast(), torch.inference_mode():
            images = module.generate(requests.to(machine.device)).cpu().numpy()
        writer.finish()
        for number, image in enumerate(images):
            writer.write(folder / f"{number:04d}.png", image, {"synthetic": True})

    return step


def judging(machine: Machine, case: Case) -> Sides:
    """The metric suite of the pocket world on images of this size, its networks on the device."""
    side, size = case.shape.resolution, case.size or 16
    judges = Judges(str(FACES_B), str(CLIP), str(FACES_A), det_size=DET_SIZE, device=machine.device)
    images = torch.randint(0, 255, (size, side, side, 3), dtype=torch.uint8).numpy()
    return {"ours": timed(machine, lambda: judges.observe(images), size)}

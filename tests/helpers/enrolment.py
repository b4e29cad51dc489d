"""Enrolment in miniature: what ``train.py`` must be told to optimise the tokens of tiny subjects."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

import train
from pocket.render.dataset import rows_of
from pocket.tiny.world import ENROLMENT_STEPS, GRID, TEST, TinyWorld

STEPS = ENROLMENT_STEPS
NAMES = tuple(str(rows_of(subject, GRID)[0]["subject_id"]) for subject in TEST)


def enrol(world: TinyWorld, output: Path, subjects: Sequence[str] | None = None, **changes: object) -> Path:
    """Run ``train.main``; it must succeed."""
    assert train.main(world.sefi_ide(output, subjects, **changes)) == 0
    return output


def vectors(run: Path) -> dict[str, torch.Tensor]:
    """Vectors (stages, sides, tokens, D) by subject."""
    return {name.removeprefix("subjects."): value for name, value in load_file(run / "adapter.safetensors").items()}

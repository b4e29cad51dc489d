"""Enrolment in miniature: what ``train.py`` must be told to optimise the tokens of tiny subjects."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

import train
from pocket.render.dataset import rows_of
from tests.helpers.training import GRID, TEST, TinyWorld

STEPS = 6
NAMES = tuple(str(rows_of(subject, GRID)[0]["subject_id"]) for subject in TEST)


def arguments(world: TinyWorld, output: Path, subjects: Sequence[str] | None = None, **changes: object) -> list[str]:
    """Arguments of ``train.main``; ``changes`` are keys with ``__`` for the dots."""
    settings: dict[str, object] = {
        "output": output,
        "model": "lightning_modules.SefiIDE",
        "model.backbone": world.base,
        "model.attention_side": 8,
        "model.tokens": "free",
        "model.learning_rate": 5e-3,
        "data.source": world.dataset,
        "data.backbone": world.base,
        "data.cache_dir": world.cache,
        "data.resolution": 64,
        "data.subjects": "null" if subjects is None else f"[{','.join(subjects)}]",
        "data.enrolment.steps": STEPS,
        "data.enrolment.at_once": 16,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.max_epochs": 1,
        "trainer.num_sanity_val_steps": 0,
        "trainer.log_every_n_steps": 2,
        "trainer.gradient_clip_val": 0.01,  # low enough to be at work in every step
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "checkpoint_every": 4,
    }
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return [f"--{key}={value}" for key, value in settings.items()]


def enrol(world: TinyWorld, output: Path, subjects: Sequence[str] | None = None, **changes: object) -> Path:
    """Run ``train.main``; it must succeed."""
    assert train.main(arguments(world, output, subjects, **changes)) == 0
    return output


def vectors(run: Path) -> dict[str, torch.Tensor]:
    """Vectors (stages, sides, tokens, D) by subject."""
    return {name.removeprefix("subjects."): value for name, value in load_file(run / "adapter.safetensors").items()}

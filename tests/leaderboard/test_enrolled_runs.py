"""Runs that hold vectors per subject, through the commands."""

import json
from pathlib import Path

import pytest
import torch

import evaluate
import train
from datamodules.photos import load_photos
from datamodules.sources import cache_folder, find_shards
from lightning_modules.sefi_ide import SefiIDE
from networks.stage_tokens import TokenEmitter
from tests.enrolment import STEPS
from tests.leaderboard.conftest import World
from tests.tiny import SIDE, TEXT_WIDTH


@pytest.fixture(scope="module")
def subjects(world: World) -> list[str]:
    """The test subjects of the world's dataset."""
    return sorted({p.subject_id for p in load_photos(find_shards(str(world.root / "dataset")), cache_folder())})


def enrol(world: World, folder: Path, subjects: list[str], dataset: Path | None = None) -> Path:
    arguments = {
        "output": folder,
        "model": "lightning_modules.SefiIDE",
        "model.backbone": world.root / "base",
        "model.attention_side": 8,
        "data.source": dataset or world.root / "dataset",
        "data.backbone": world.root / "base",
        "data.resolution": SIDE,
        "data.features": "[]",
        "data.subjects": f"[{','.join(subjects)}]",
        "data.enrolment.steps": STEPS,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.num_sanity_val_steps": 0,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    assert train.main([f"--{key}={value}" for key, value in arguments.items()]) == 0
    return folder


def test_a_run_is_evaluated_like_any_other(world: World, subjects: list[str], tmp_path: Path) -> None:
    run = enrol(world, tmp_path / "sefi", subjects)
    output = tmp_path / "results"
    assert evaluate.main([f"--config={world.config}", f"--runs={run}", f"--output={output}"]) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    (row,) = [entry for entry in board["entries"] if entry["label"] == "sefi"]
    assert row["kind"] == "method" and row["metrics"]["clip_t"]["n"] == len(subjects)
    with torch.device("meta"):
        emitter = TokenEmitter(TEXT_WIDTH, 10)
    assert row["costs"]["trainable_parameters"] == sum(p.numel() for p in emitter.parameters())
    assert row["costs"]["enrol_seconds"] is not None


def test_a_subject_that_was_not_enrolled_stops_the_evaluation_before_it_begins(
    world: World, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = enrol(world, tmp_path / "sefi", subjects[:1])
    output = tmp_path / "results"
    assert evaluate.main([f"--config={world.config}", f"--runs={run}", f"--output={output}"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"not enrolled in this run: {subjects[1]}" in line
    assert f"train.py --config {run}/config.yaml --output NEW --data.subjects [{','.join(subjects)}]" in line
    assert not output.exists()
    command = [f"--config={run}/config.yaml", f"--output={tmp_path / 'new'}", f"--data.subjects=[{','.join(subjects)}]"]
    assert train.main(command) == 0, "the command that the line gives"
    assert SefiIDE.__name__ in (tmp_path / "new" / "config.yaml").read_text()

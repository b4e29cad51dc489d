"""``evaluate.py`` with PIDiff: the reference comes with its mask, and the encoder must be the one of the training."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import evaluate
from datamodules import face_crops as portraits
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from leaderboard.generate.generation import trained_features
from lightning_modules.run import Run
from networks.face_analysis import FacePack
from tests.leaderboard.conftest import World
from tests.tools.test_edit_faces import World as Editing


@pytest.fixture(scope="module")
def editing(tmp_path_factory: pytest.TempPathFactory) -> Editing:
    return Editing(tmp_path_factory.mktemp("runs"))


def write_manifest(editing: Editing, **encoders: str) -> None:
    (editing.run / "manifest.json").write_text(json.dumps({"encoders": encoders}))


def fingerprint(editing: Editing) -> str:
    return make_features(["wplus"], trained_features(Run(editing.run)), EncoderContext("", 512))["wplus"].fingerprint


def test_a_run_is_generated_and_scored(
    world: World, editing: Editing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(editing)
    write_manifest(editing, wplus=fingerprint(editing))
    config = world.change(subjects=1, samples=1)
    output = tmp_path / "results"
    assert evaluate.main([f"--config={config}", f"--runs={editing.run}", f"--output={output}"]) == 0
    table = capsys.readouterr().out
    assert "pidiff" in table and "prompt-only" in table
    reference = Image.open(next((output / "references").glob("*.png")))
    assert reference.mode == "RGBA" and 0 < (np.asarray(reference)[..., 3] == 0).mean() < 1
    generated, floor = (
        np.asarray(Image.open(output / "entries" / label / "images" / "s0018.beach.00.png"))
        for label in ("pidiff", "prompt-only")
    )
    assert not np.array_equal(generated, floor)


def test_another_encoder_than_in_training_is_one_line(
    world: World, editing: Editing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(editing, wplus="another encoder")
    given = [f"--config={world.config}", f"--runs={editing.run}", f"--output={tmp_path / 'results'}"]
    assert evaluate.main(given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "'wplus' features of another encoder or aligner" in error


def test_a_reference_that_the_runs_detector_cannot_align_stops_the_plan(
    world: World, editing: Editing, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge is content with it: its detector is another one. What is generated is not aligned again."""
    write_manifest(editing)
    write_manifest(editing, wplus=fingerprint(editing))
    output = tmp_path / "results"
    given = [f"--config={world.change(subjects=1, samples=1)}", f"--runs={editing.run}", f"--output={output}"]
    twice = SimpleNamespace(analyse=lambda photos: [FacePack(editing.faces).analyse(photos)[0] * 2])
    with monkeypatch.context() as patch:
        patch.setattr(portraits, "landmarks_of", lambda photo, _: portraits.only_face(photo.pixels, photo.name, twice))
        assert evaluate.main(given) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert line.startswith(
            f"error: --runs: {editing.run} cannot generate all subjects: the reference photo of s0018"
        )
        assert "shows 2 faces: give a photo with exactly one" in line
        assert not output.exists()
    assert evaluate.main([*given, "--stage=generate"]) == 0
    monkeypatch.setattr(portraits, "landmarks_of", lambda *_: pytest.fail("aligned again"))
    assert evaluate.main([*given, "--stage=score"]) == 0

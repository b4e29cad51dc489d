"""Objects beside people, and on their own: enrolled and evaluated by the commands, without identity."""

import hashlib
import io
import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from PIL import Image

import evaluate
from datamodules.schema import features
from leaderboard.results.anchors import KINDS
from pocket.models.paths import CLIP
from pocket.render.dataset import Grid, rows_of
from pocket.tiny.components import SIDE
from tests.leaderboard.conftest import World
from tests.leaderboard.test_enrolled_runs import enrol

FIRST, SECOND = "s0018", "s0019"
OF_OBJECTS = ("subject_recovered", "subject_likeness", "subject_copy_paste")
IDENTITY = (
    "identity_misses_zero", "identity_given_detection", "detection_rate", "identity_recovered", "identity_to_reference",
    "copy_paste", "background_leakage", "background_copied", "pose_leakage",
)  # fmt: skip


def hat(row: dict) -> dict:
    """The row as a picture of a hat: dark, or of one level in which the tiny detector finds a face that is none."""
    image = Image.new("RGB", (SIDE, SIDE), (row["background_id"], row["pose_id"], 0))
    if row["pose_id"] == 1:
        image = Image.new("RGB", (SIDE, SIDE), (150, 150, 150 + row["background_id"]))
    image.paste((20 + 9 * row["background_id"], 5 * row["pose_id"], 0), (10, 30, 50, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    picture = {"image": {"bytes": data, "path": None}, "sha256": hashlib.sha256(data).hexdigest()}
    nobody = {"has_face": False, "bbox": None, "landmarks": None, "pose": None, "photo_id": None}
    return {**row, **picture, **nobody, "subject_class": "hat"}


def evaluated(world: World, root: Path, hats: set[str], capsys: pytest.CaptureFixture[str]) -> dict:
    """The board of both subjects, those of ``hats`` being hats, and what was printed in its key ``printed``."""
    (root / "dataset").mkdir()
    rows = [row for i in (18, 19) for row in rows_of(i, Grid(20, 3, 3))]
    rows = [hat(row) if row["subject_id"] in hats else row for row in rows]
    Dataset.from_list(rows, features=features()).to_parquet(root / "dataset" / "test.parquet")
    settings = yaml.safe_load(world.config.read_text())
    settings["protocol"]["dataset"] = str(root / "dataset")
    settings["judges"]["clip"] = str(CLIP)  # to an untrained one a ceiling may lie below the floor
    (root / "evaluation.yaml").write_text(yaml.safe_dump(settings))
    run = enrol(world, root / "sefi", [FIRST, SECOND], data__source=root / "dataset")
    given = [f"--config={root / 'evaluation.yaml'}", f"--runs={run}", f"--output={root / 'results'}"]
    assert evaluate.main(given) == 0
    assert evaluate.main([f"--verify={root / 'results'}"]) == 0
    return json.loads((root / "results" / "leaderboard.json").read_text()) | {"printed": capsys.readouterr().out}


def test_objects_alone_have_a_headline_no_identity_and_all_else(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = evaluated(world, tmp_path, {FIRST, SECOND}, capsys)
    assert [entry["kind"] for entry in board["entries"]] == list(KINDS)
    for entry in board["entries"]:
        assert not set(IDENTITY) & entry["metrics"].keys()
        for name in (*OF_OBJECTS, "clip_t", "clip_i", "diversity"):
            assert entry["metrics"][name]["value"] is not None and entry["metrics"][name]["n"] == 2, name
        assert entry["metrics"]["subject_likeness"]["value"] == entry["metrics"]["clip_i"]["value"]
        assert entry["counts"]["without_face"] == 0
    recovered = {entry["kind"]: entry["metrics"]["subject_recovered"]["value"] for entry in board["entries"]}
    assert (recovered["floor"], recovered["ceiling"]) == (0.0, 1.0)
    assert list(board["metrics"])[:2] == ["subject_recovered", "subject_copy_paste"]
    assert "class hat has no face: identity is not measured there" in board["printed"]


def test_beside_people_objects_do_not_count_as_misses(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = evaluated(world, tmp_path, {FIRST}, capsys)
    (ceiling,) = [entry for entry in board["entries"] if entry["kind"] == "ceiling"]
    assert ceiling["metrics"]["detection_rate"]["value"] == 1.0
    for name in ("identity_misses_zero", "identity_recovered", *OF_OBJECTS):
        assert ceiling["metrics"][name]["n"] == 1 and ceiling["metrics"][name]["value"] is not None, name
    for entry in board["entries"]:
        hats, person = entry["by_subject"][FIRST], entry["by_subject"][SECOND]
        for name in set(IDENTITY) & hats.keys():
            assert hats[name] is None, name
        for name in set(OF_OBJECTS) & hats.keys():
            assert hats[name] is not None and person[name] is None, name
        assert hats["clip_t"] is not None and person["detection_rate"] is not None

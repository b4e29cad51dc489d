"""Real photos as entries, brought in by ``--images`` and judged by real face packs. Nothing of them is kept here."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from datasets import Dataset
from insightface.app import FaceAnalysis
from numpy.typing import NDArray

from contracts.records import Request
from datamodules.image_io import read_square
from datamodules.schema import features
from evaluate import main
from leaderboard.results.folder import Results
from pocket.tiny.components import tiny_clip
from tests.helpers.real import REAL, needs_real

SIDE = 256
PEOPLE = 5
SEEN = 3
"""Photos of a person in the data set, the reference first. The next one takes part in entries."""


def photos(person: str) -> list[Path]:
    return sorted((REAL / "people" / person).glob("*.jpg"))


def dataset(folder: Path) -> Path:
    """The people's first photos in the schema, with nothing known but whose they are."""
    rows = [
        {
            **dict.fromkeys(features()),
            "image": {"bytes": photo.read_bytes(), "path": None},
            "subject_id": person.name,
            "subject_class": "person",
            "has_face": True,
            "role": "held_out" if i else "reference",
            "caption": "a photo of a person",
            "split": "test",
            "source": "tests",
            "licence": "tests",
            "sha256": hashlib.sha256(photo.read_bytes()).hexdigest(),
        }
        for person in sorted((REAL / "people").iterdir())[:PEOPLE]
        for i, photo in enumerate(photos(person.name)[:SEEN])
    ]
    folder.mkdir()
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    return folder


def board(tmp_path: Path, pack: str) -> tuple[Results, dict[str, dict]]:
    """The board of four entries of photos, without a base model and a floor: rows by label."""
    (tmp_path / "prompts.yaml").write_text(
        yaml.safe_dump({"prompts": [{"id": "photo", "class": "scene", "text": "a photo of a <subject>"}]})
    )
    data = tmp_path / "data"
    protocol = {"prompts": str(tmp_path / "prompts.yaml"), "dataset": str(data if data.is_dir() else dataset(data))}
    protocol |= {"subjects": None, "samples": 1, "backbone": None, "resolution": SIDE}
    judges = {"faces": str(REAL / pack), "clip": str(tiny_clip(tmp_path / "clip"))}
    config = tmp_path / f"{pack}.yaml"
    config.write_text(yaml.safe_dump({"protocol": protocol, "judges": judges}))
    results = Results(tmp_path / pack)
    arguments = ["--config", str(config), "--output", str(results.root)]
    assert main([*arguments, "--stage", "plan"]) == 0
    requests = results.protocol().requests
    people = list(results.protocol().subjects)
    entries: dict[str, Callable[[Request], Path]] = {
        "same": lambda r: photos(r.subject)[SEEN],
        "another": lambda r: photos(people[people.index(r.subject) - 1])[SEEN],
        "reference": lambda r: photos(r.subject)[0],
    }
    for label, answer in entries.items():
        (tmp_path / label).mkdir(exist_ok=True)
        for request in requests:
            shutil.copy(answer(request), tmp_path / label / f"{request.id}.jpg")
    (tmp_path / "noise").mkdir(exist_ok=True)
    for i, request in enumerate(requests):
        noise = np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "noise" / f"{request.id}.png"), noise)
    given = [str(tmp_path / label) for label in (*entries, "noise")]
    assert main([*arguments, "--images", *given]) == 0
    rows = json.loads((results.root / "leaderboard.json").read_text())["entries"]
    return results, {row["label"]: row for row in rows}


@needs_real
@pytest.mark.slow
def test_a_board_of_real_photos(tmp_path: Path) -> None:
    """The same person leads another one, whatever the pack; the reference is a copy without a mark, noise no face.

    By the pack whose embeddings are centred, values are those of insightface called directly.
    """
    for pack, gap in (("faces_open_centred", 0.45), ("faces_open", 0.05)):
        results, rows = board(tmp_path, pack)
        identity = {label: row["metrics"]["identity_misses_zero"]["value"] for label, row in rows.items()}
        assert identity["same"] > identity["another"] + gap, identity
        assert identity["noise"] == rows["noise"]["metrics"]["detection_rate"]["value"] == 0.0
        assert rows["same"]["metrics"]["detection_rate"]["value"] == 1.0
        assert rows["reference"]["metrics"]["copy_paste"]["value"] == pytest.approx(1.0, abs=5e-4)
        assert rows["reference"]["copies"] == ["copy_paste"] and list(rows)[:2] == ["real-photo", "same"]
        assert "reference copies its reference" in (results.root / "leaderboard.md").read_text()
        assert rows["same"]["images"]["jpeg"] == rows["same"]["images"]["resized"] == PEOPLE
    app = FaceAnalysis(name=str(REAL / "faces_open_centred"))
    app.prepare(ctx_id=-1, det_size=(640, 640))

    def embedding(path: Path) -> NDArray[np.float32]:
        image = read_square(path.read_bytes(), str(path), SIDE)
        faces = app.get(np.ascontiguousarray(image[..., ::-1]))
        return max(faces, key=lambda face: np.prod(face.bbox[2:] - face.bbox[:2])).normed_embedding

    for name, record in Results(tmp_path / "faces_open_centred").entry("same").records().items():
        photo, held_out = photos(record.subject)[SEEN], photos(record.subject)[1:SEEN]
        direct = float(np.mean([embedding(photo) @ embedding(other) for other in held_out]))
        assert record.scores["identity_given_detection"] == pytest.approx(direct, abs=0.01), name

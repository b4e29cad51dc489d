"""Curation of real photos of people and objects."""

import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from curation.build import curate
from curation.faces import FaceFinder
from curation.pose import estimate
from curation.settings import CurationSettings
from tests.helpers.real import REAL, needs_real

pytestmark = needs_real
PACKS = ("faces_open_centred", "faces_open")


def settings(pack: str, **given: object) -> CurationSettings:
    return CurationSettings("a test", "test only", "public figures", str(REAL / pack), test_only=True, **given)


def rows(out: Path) -> list[dict]:
    return [row for path in sorted((out / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def turned(pixels: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """The photo turned clockwise about its middle."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("people")
    curate(str(REAL / "people"), str(out), settings(PACKS[0]))
    return out


def test_portraits_are_kept_with_the_right_face(people: Path) -> None:
    found = rows(people)
    assert len(found) >= 38
    for row in found:
        x0, y0, x1, y1 = row["bbox"]  # in these photos the subject is in the middle
        assert x0 < 125 < x1 and y0 < 125 < y1, row["original"]


def poses(photos: list[NDArray[np.uint8]], boxes: list[NDArray], subjects: list[str]) -> NDArray[np.float32]:
    """Yaw, pitch and roll of the face nearest to each box's middle."""
    finder, landmarks = FaceFinder(str(REAL / PACKS[0]), [128, 640]), []
    for photo, box in zip(photos, boxes, strict=True):
        faces = finder.find(photo)
        middle = (box[:2] + box[2:]) / 2
        near = min(faces, key=lambda face: float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - middle)))
        landmarks.append(finder.upright(photo, near.landmarks))
    return estimate(landmarks, subjects)


def test_mirroring_flips_yaw_and_turning_moves_roll(people: Path) -> None:
    found = rows(people)
    photos = [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in found]
    boxes = [np.array(row["bbox"]) for row in found]
    mirrored = [np.array([250 - box[2], box[1], 250 - box[0], box[3]]) for box in boxes]
    subjects = [row["subject_id"] for row in found]
    plain = np.array([row["pose"] for row in found])
    other = poses([np.ascontiguousarray(photo[:, ::-1]) for photo in photos], mirrored, subjects)
    assert np.abs(plain[:, 0] + other[:, 0]).mean() < 2
    assert np.corrcoef(plain[:, 0], other[:, 0])[0, 1] < -0.98
    clear = np.abs(plain[:, 0]) > 10
    assert (np.sign(plain[clear, 0]) == -np.sign(other[clear, 0])).all()
    for degrees in (15, -15):
        moved = poses([turned(photo, degrees) for photo in photos], boxes, subjects)[:, 2] - plain[:, 2]
        assert np.abs(moved - degrees).max() <= 4


@pytest.mark.parametrize("pack", PACKS)
def test_six_spoilt_photos_have_their_reasons(pack: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(REAL / "people", photos)
    own, stranger = read(photos / "p01" / "04.jpg"), read(photos / "p08" / "02.jpg")
    scene = np.full((400, 650, 3), 127, np.uint8)
    scene[:, :400] = cv2.resize(stranger, (400, 400), interpolation=cv2.INTER_CUBIC)
    scene[100:350, 400:] = own
    Image.fromarray(scene).save(photos / "p01" / "group.jpg", quality=95)
    Image.fromarray(cv2.GaussianBlur(own, (0, 0), 4)).save(photos / "p01" / "blurred.jpg")
    Image.fromarray(cv2.resize(own, (200, 200), interpolation=cv2.INTER_AREA)).save(photos / "p01" / "again.jpg")
    shutil.copy(photos / "p05" / "00.jpg", photos / "p02" / "other.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(read(photos / "p03" / "00.jpg"))))
    (photos / "p03" / "00.jpg").unlink()
    lying.save(photos / "p03" / "turned.jpg", exif=exif, quality=95)
    half = (photos / "p04" / "00.jpg").read_bytes()
    (photos / "p04" / "half.jpg").write_bytes(half[: len(half) // 2])
    report = curate(str(photos), str(tmp_path / "out"), settings(pack, masks="none"))
    found = {row["original"]: row for row in rows(tmp_path / "out")}
    assert {one.name: one.reason for one in report.dropped} == {
        "p01/blurred.jpg": "blurred",
        "p01/again.jpg": "near-duplicate",
        "p02/other.jpg": "another person",
        "p04/half.jpg": "unreadable",
    }
    crop = np.asarray(Image.open(io.BytesIO(found["p01/group.jpg"]["image"]["bytes"]))).astype(float)
    x0, y0, x1, y1 = (round(value) for value in found["p01/group.jpg"]["bbox"])
    # What was cut out is the right side of the scene, and the face in it is the one on the right.
    height = len(crop)
    assert min(np.abs(crop - scene[y : y + height, -height:]).mean() for y in range(401 - height)) < 4
    assert x0 > height - 250 and 0 < y0 < y1 < height and x1 <= height
    assert abs(found["p03/turned.jpg"]["pose"][2]) < 20


def test_every_object_is_kept_and_no_face_is_needed(tmp_path: Path) -> None:
    listed = str(REAL / "objects" / "prompts_and_classes.txt")
    given = CurationSettings("a test", "CC BY 4.0", "no people", objects=True, subjects=listed, test_only=True)
    report = curate(str(REAL / "objects"), str(tmp_path), given)
    found = rows(tmp_path)
    assert not report.dropped
    nouns = {row["subject_id"]: row["subject_class"] for row in found}
    assert len(nouns) == 6 and nouns["wolf_plushie"] == "stuffed animal"
    assert sum(row["mask_from"] == "grabcut" for row in found) >= 0.9 * len(found)

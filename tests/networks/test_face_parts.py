"""Which parts of a face can be read: the crop, the shipped reader, and what a pack with it takes for a face."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.errors import LikenessError
from metrics.functional.spoilt_photos import eyes_painted_over, inner_face_blurred, inner_face_painted_over
from networks.face_analysis import FacePack
from networks.face_files import find_parts_file
from networks.face_parts import LEAST, PARTS, SIDE, crop, is_large_enough
from pocket.models.paths import DET_SIZE, FACES_A, FACES_B
from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import Render, render

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def renders() -> list[Render]:
    shots = (draw_shot(f"parts/{i}", style="photo", accessories=False) for i in range(40))
    return [render(draw_subject(f"parts/{i}"), shot) for i, shot in enumerate(shots)]


@pytest.fixture(scope="module")
def judge() -> FacePack:
    return FacePack(FACES_B, DET_SIZE)


def images(renders: list[Render]) -> Image:
    return np.stack([one.image for one in renders])


def test_a_crop_has_the_landmarks_where_arcface_has_them(renders: list[Render]) -> None:
    for one in renders[:5]:
        marked = np.zeros_like(one.image)
        eye = np.round(one.landmarks[0]).astype(int)
        cv2.circle(marked, (int(eye[0]), int(eye[1])), 1, (255, 255, 255), -1)
        found = crop(marked, one.landmarks)
        assert found.shape == (SIDE, SIDE, 3)
        y, x = np.unravel_index(found[..., 0].argmax(), found.shape[:2])
        assert np.hypot(x - 38.3 * SIDE / 112, y - 51.7 * SIDE / 112) < 4


def test_a_large_face_is_averaged_into_its_crop(renders: list[Render]) -> None:
    one = renders[0]
    fine = np.kron(one.image, np.ones((8, 8, 1), np.uint8))
    fine[::2, ::2] = 255 - fine[::2, ::2]  # a pattern finer than the crop's pixels: their mean, no moiré
    spread = crop(fine, (one.landmarks + 0.5) * 8 - 0.5).astype(float)
    expected = crop((0.75 * one.image + 0.25 * (255.0 - one.image)).round().astype(np.uint8), one.landmarks)
    assert np.abs(spread - expected).mean() < 8


def test_untouched_faces_are_complete_and_painted_ones_are_none(renders: list[Render], judge: FacePack) -> None:
    whole = judge.judge(images(renders))
    assert whole.found.all() and whole.complete.mean() >= 0.95
    for spoil in (inner_face_painted_over, inner_face_blurred):
        gone = judge.judge(np.stack([spoil(one.image, one.landmarks) for one in renders]))
        assert gone.found.mean() <= 0.05 and not gone.complete.any()
        assert (gone.embeddings[~gone.found] == 0).all() and (gone.counts[~gone.found] == 0).all()
    blind = judge.judge(np.stack([eyes_painted_over(one.image, one.landmarks) for one in renders]))
    assert blind.complete.mean() <= 0.05 and blind.found.mean() > 0.5, "as behind sunglasses"


def test_sunglasses_hide_the_eyes_alone(judge: FacePack) -> None:
    shots = (draw_shot(f"parts/{i}", style="photo", accessories=False) for i in range(20))
    dark = [render(draw_subject(f"parts/{i}"), replace(s, glasses="sunglasses")).image for i, s in enumerate(shots)]
    judged = judge.judge(np.stack(dark))
    assert judged.found.mean() >= 0.95 and judged.complete.mean() <= 0.05


def test_a_face_too_small_to_read_is_one_by_the_detectors_word(renders: list[Render], judge: FacePack) -> None:
    canvas = np.zeros((20, 64, 64, 3), np.uint8)
    for i, one in enumerate(renders[:20]):
        canvas[i, 16:48, 16:48] = cv2.resize(one.image, (32, 32), interpolation=cv2.INTER_AREA)
        assert is_large_enough(one.bbox, 2.0) and not is_large_enough(one.bbox / 2 + 16, 2.0)
        assert not is_large_enough(one.bbox, 1.0), "seen at half that size its landmarks are rough"
    judged = judge.judge(canvas)
    assert judged.found.mean() >= 0.95 and not judged.complete.any()
    wide = np.stack([np.hstack([renders[i].image, renders[i + 1].image]) for i in range(0, 40, 2)])
    assert (judge.judge(wide).counts == 2).mean() >= 0.95, "two photos side by side"


def test_every_face_says_which_parts_are_readable(renders: list[Render], judge: FacePack) -> None:
    for faces in judge.analyse(images(renders)[:4]):
        for face in faces:
            assert face.readable is not None and face.readable.shape == (len(PARTS),) and face.readable.sum() >= LEAST
    without = FacePack(FACES_A, DET_SIZE)
    assert without.parts_file is None and not without.judge(images(renders)[:4]).complete.any()
    assert all(face.readable is None for faces in without.analyse(images(renders)[:4]) for face in faces)


def test_a_pack_without_the_reader_takes_painted_heads_for_faces(
    renders: list[Render], judge: FacePack, tmp_path: Path
) -> None:
    for name in ("detection.onnx", "recognition.onnx"):
        shutil.copy(FACES_B / name, tmp_path / name)
    lax = FacePack(tmp_path, DET_SIZE)
    painted = np.stack([inner_face_painted_over(one.image, one.landmarks) for one in renders])
    assert lax.judge(painted).found.mean() > 0.5 > judge.judge(painted).found.mean()
    assert lax.fingerprint != judge.fingerprint, "so numbers of the two never share a column"


def test_what_is_no_face_is_looked_at_again_with_a_border(renders: list[Render]) -> None:
    pack = FacePack(FACES_B, DET_SIZE, retry=True)
    painted = np.stack([inner_face_painted_over(one.image, one.landmarks) for one in renders[:8]])
    judged = pack.judge(painted)
    assert judged.found.mean() < 0.2, "the second attempt is checked too"


def test_the_reader_is_told_by_its_output(tmp_path: Path) -> None:
    shutil.copy(FACES_B / "parts.onnx", tmp_path / "a.onnx")
    found = find_parts_file(tmp_path)
    assert found is not None and found.path.name == "a.onnx" and found.side == SIDE
    assert find_parts_file(FACES_A) is None and find_parts_file(tmp_path / "absent") is None


def test_a_damaged_reader_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(FACES_B, tmp_path / "pack")
    data = (tmp_path / "pack" / "parts.onnx").read_bytes()
    (tmp_path / "pack" / "parts.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(LikenessError, match=r"parts\.onnx") as caught:
        FacePack(tmp_path / "pack", DET_SIZE).judge(np.zeros((1, 64, 64, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_stock_insightface_passes_over_the_reader() -> None:
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=str(FACES_B), providers=["CPUExecutionProvider"])
    assert set(app.models) == {"detection", "recognition"}

"""Faces over several sides: each is counted once and is as the side that suits it sees it; YuNet as OpenCV runs it."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from networks.face_detectors import LARGEST_FACE, SCORE_THRESHOLD, Detections, YuNetDetector, find_faces, overlap
from tests.helpers.face_models import yunet


@dataclass
class Sides:
    """A detector that sees boxes (4,) of an image, by side; a face's landmarks are the side."""

    boxes: dict[int, list[list[float]]]

    def find(self, image: NDArray[np.uint8], side: int) -> Detections:
        boxes = np.array(self.boxes[side], np.float32).reshape(-1, 4)
        return Detections(boxes, np.full((len(boxes), 5, 2), side, np.float32), np.full(len(boxes), 0.9, np.float32))


IMAGE = np.zeros((512, 512, 3), np.uint8)


def seen(boxes: dict[int, list[list[float]]]) -> list[tuple[list[float], int]]:
    """Box of each face, and the side whose landmarks it has."""
    found = find_faces(Sides(boxes), IMAGE, tuple(boxes))
    assert len(found.scores) == len(found.boxes)
    return [(box.tolist(), int(marks[0, 0])) for box, marks in zip(found.boxes, found.landmarks, strict=True)]


def test_a_small_face_is_as_the_large_side_sees_it() -> None:
    small, same = [200, 200, 250, 260], [202, 201, 252, 259]
    assert seen({128: [same], 640: [small]}) == [(small, 640)]
    assert seen({128: [], 640: [small]}) == [(small, 640)]


def test_a_face_too_long_for_the_large_side_is_as_the_small_side_sees_it() -> None:
    longest = int(LARGEST_FACE * 512 / 640)
    fits, fills = [10, 10, 200, 10 + longest], [10, 10, 300, 10 + longest + 1]
    assert seen({128: [fits], 640: [fits]}) == [(fits, 640)]
    assert seen({128: [fills], 640: [[0, 0, 320, 400]]}) == [(fills, 128)]
    assert seen({128: [], 640: [fills]}) == [(fills, 640)], "no other side sees it"


def test_different_faces_of_all_sides_are_there_and_the_largest_comes_first() -> None:
    large, small, third = [0, 0, 400, 500], [410, 10, 450, 60], [460, 400, 500, 460]
    assert seen({128: [large], 640: [small, third]}) == [(large, 128), (third, 640), (small, 640)]
    assert seen({128: [], 640: []}) == []


def test_one_side_is_what_the_detector_says() -> None:
    """Also where it sees two faces in one place, which it counts by a rule of its own."""
    boxes = [[10.0, 10, 60, 60], [12, 12, 62, 62], [100, 100, 300, 300]]
    assert seen({128: boxes}) == [(boxes[2], 128), (boxes[0], 128), (boxes[1], 128)]


def test_overlap_is_the_intersection_over_the_union() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(overlap(boxes, boxes[0]), [1, 50 / 150, 0, 0])
    assert overlap(boxes[:0], boxes[0]).shape == (0,)


@pytest.mark.parametrize("side", [128, 320, 640])
def test_yunet_is_opencvs_own_at_any_side(tmp_path: Path, side: int) -> None:
    file = yunet(tmp_path / "yunet.onnx")
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    found = YuNetDetector(file).find(image, side)
    theirs = cv2.FaceDetectorYN.create(str(file), "", (side, side), SCORE_THRESHOLD)
    _, rows = theirs.detect(image)
    np.testing.assert_allclose(found.boxes[:, :2], rows[:, :2])
    np.testing.assert_allclose(found.boxes[:, 2:] - found.boxes[:, :2], rows[:, 2:4], rtol=1e-6)
    np.testing.assert_allclose(found.landmarks.reshape(-1, 10), rows[:, 4:14])
    np.testing.assert_allclose(found.boxes, [[8, 0, 56, 64]], atol=1e-4)
    assert found.scores.tolist() == pytest.approx([0.9])
    assert not len(YuNetDetector(file).find(np.zeros_like(image), side).boxes)


def test_what_yunet_finds_is_in_pixels_of_the_image(tmp_path: Path) -> None:
    """A wide image is fitted into the square: 400 x 200 pixels become 128 x 64."""
    detector = YuNetDetector(yunet(tmp_path / "yunet.onnx"))
    found = detector.find(np.full((200, 400, 3), 200, np.uint8), 128)
    np.testing.assert_allclose(found.boxes, np.array([[8, 0, 56, 64]]) * 400 / 128, atol=1e-3)
    np.testing.assert_allclose(found.landmarks[0, :2], np.array([[24, 24], [40, 24]]) * 400 / 128, atol=1e-3)

"""Crops are framed as the formula says, whatever the photo's scale and turn."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.errors import LikenessError
from networks.face_alignment import align_face, alignment

MARKS = np.array([[50.0, 60.0], [80.0, 60.0], [65.0, 75.0], [55.0, 90.0], [75.0, 90.0]])


def photo(side: int = 128) -> NDArray[np.uint8]:
    """Smooth, so that resampling alone changes it little."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def moved(points: NDArray[np.float64], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ transform[:, :2].T + transform[:, 2]


def test_the_frame_is_twice_two_eye_distances_around_a_point_below_the_eyes() -> None:
    """Eyes 30 apart and 30 above the mouth: half a side is max(2 x 30, 1.8 x 30), the centre (65, 60 + 3)."""
    transform = alignment(MARKS, 120)
    np.testing.assert_allclose(moved(np.array([[65.0, 63.0]]), transform), [[59.5, 59.5]])
    np.testing.assert_allclose(transform[:, :2], np.eye(2))


def test_a_long_face_is_framed_by_its_mouth() -> None:
    long = MARKS + np.array([[0, 0], [0, 0], [0, 10], [0, 30], [0, 30]])
    np.testing.assert_allclose(alignment(long, 108)[:, :2], np.eye(2) * 108 / (2 * 1.8 * 60))


@pytest.mark.parametrize("angle, scale", [(0.0, 0.5), (20.0, 1.0), (-35.0, 1.7)])
def test_the_crop_of_a_turned_and_scaled_photo_is_the_same(angle: float, scale: float) -> None:
    image = photo()
    turn = cv2.getRotationMatrix2D((65, 70), angle, scale)
    turned = cv2.warpAffine(image, turn, (128, 128), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    small = MARKS * 0.4 + np.array([39.0, 42.0])  # so that the crop stays inside all of the photos
    crop = align_face(image, small, 32)
    other = align_face(turned, moved(small, turn), 32)
    assert np.abs(crop.astype(float) - other).mean() < 3


def test_a_large_photo_is_averaged_and_not_sampled() -> None:
    """Fine stripes become grey, and the crop lies where that of the small photo lies."""
    stripes = np.repeat(np.tile(np.array([0, 255], np.uint8), 512)[None, :, None], 1024, 0).repeat(3, 2)
    crop = align_face(stripes, MARKS * 8, 48)
    assert np.abs(crop.astype(float) - 127.5).max() < 3
    image = photo()
    enlarged = cv2.resize(image, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    crop = align_face(image, MARKS, 60)
    other = align_face(enlarged, (MARKS + 0.5) * 8 - 0.5, 60)
    assert np.abs(crop.astype(float) - other).mean() < 2


def test_a_mask_is_cut_like_its_photo() -> None:
    image = photo()
    np.testing.assert_array_equal(align_face(image[..., 0], MARKS, 64), align_face(image, MARKS, 64)[..., 0])


def test_outside_the_photo_lies_its_reflection() -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    assert (align_face(image, MARKS - 40, 64) == 90).all()


@pytest.mark.parametrize(
    "marks, message",
    [
        (np.zeros((5, 2)), "coincide"),
        (MARKS[:4], "five finite landmarks"),
        (np.where(np.arange(10).reshape(5, 2) == 3, np.nan, MARKS), "five finite landmarks"),
    ],
)
def test_landmarks_without_a_face_are_refused(marks: NDArray[np.float64], message: str) -> None:
    with pytest.raises(LikenessError, match=message):
        align_face(photo(), marks, 64)

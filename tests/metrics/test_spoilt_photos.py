"""Spoilt photos change what they say, and nothing else."""

import numpy as np
import pytest

from metrics.functional.spoilt_photos import (
    cheek_colour,
    eyes_painted_over,
    inner_face,
    inner_face_blurred,
    inner_face_painted_over,
    recoloured,
)

LANDMARKS = np.array([[40, 40], [60, 40], [50, 52], [42, 64], [58, 64]], np.float32)


@pytest.fixture
def photo() -> np.ndarray:
    image = np.full((100, 100, 3), (200, 150, 100), np.uint8)
    for x, y in LANDMARKS.astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = (10, 20, 30)
    image[:, :10] = 255
    return image


def test_outside_of_the_face_nothing_changes(photo: np.ndarray) -> None:
    outside = inner_face(photo, LANDMARKS, 1.8) == 0
    for spoil in (eyes_painted_over, inner_face_painted_over, inner_face_blurred):
        assert (spoil(photo, LANDMARKS)[outside] == photo[outside]).all()
    assert (recoloured(photo, LANDMARKS, np.array([50.0, 60, 70]))[outside] == photo[outside]).all()


def test_what_is_painted_over_has_the_colour_of_the_cheeks(photo: np.ndarray) -> None:
    np.testing.assert_allclose(cheek_colour(photo, LANDMARKS), (200, 150, 100))
    blind = eyes_painted_over(photo, LANDMARKS)
    assert (blind[40, 40] == blind[40, 60]).all() and tuple(blind[40, 40]) == (200, 150, 100)
    assert (blind[64, 42] == photo[64, 42]).all(), "the mouth stays"
    smooth = inner_face_painted_over(photo, LANDMARKS)
    assert all(tuple(smooth[int(y), int(x)]) == (200, 150, 100) for x, y in LANDMARKS)


def test_blurring_keeps_the_mean_and_takes_the_detail(photo: np.ndarray) -> None:
    inside = inner_face(photo, LANDMARKS) > 0
    soft = inner_face_blurred(photo, LANDMARKS)
    assert soft[inside, 0].std() < 0.5 * photo[inside, 0].std()
    assert np.abs(soft[inside].mean(0) - photo[inside].mean(0)).max() < 12


def test_another_colour_moves_the_whole_face_by_as_much(photo: np.ndarray) -> None:
    moved = recoloured(photo, LANDMARKS, np.array([170.0, 140, 120]))
    np.testing.assert_allclose(cheek_colour(moved, LANDMARKS), (170, 140, 120), atol=1)
    assert tuple(moved[40, 40]) == (0, 10, 50), "10 - 30 is cut off at 0"


def test_landmarks_in_one_spot_or_outside_do_no_harm(photo: np.ndarray) -> None:
    for odd in (np.full((5, 2), 50.0), LANDMARKS + 500, LANDMARKS - 500):
        for spoil in (eyes_painted_over, inner_face_painted_over, inner_face_blurred):
            assert spoil(photo, odd).shape == photo.shape

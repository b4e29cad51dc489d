import numpy as np
import pytest

from metrics.functional.edit_change import HEAD, edit_change
from metrics.regions import person_region

BOX = np.array([20.0, 24.0, 44.0, 50.0])
GREY = np.full((64, 64, 3), 100, np.uint8)


def test_nothing_changed() -> None:
    assert edit_change(GREY, GREY, BOX) == (0.0, 0.0)


def test_a_change_counts_where_it_is() -> None:
    head = person_region(BOX, 64, 64, HEAD)
    inside = np.where(head[..., None], GREY + 51, GREY).astype(np.uint8)
    assert edit_change(GREY, inside, BOX) == pytest.approx((0.2, 0.0))
    outside = np.where(head[..., None], GREY, GREY - 51).astype(np.uint8)
    assert edit_change(GREY, outside, BOX) == pytest.approx((0.0, 0.2))


def test_the_head_is_face_and_hair_without_shoulders() -> None:
    head = person_region(BOX, 64, 64, HEAD)
    assert head[37, 32] and head[12, 32] and not head[60, 10] and not head[60, 54] and not head[2, 2]


def test_a_head_that_fills_the_picture_leaves_no_outside() -> None:
    assert edit_change(GREY, GREY + 51, np.array([-200.0, -200.0, 264.0, 264.0]))[1] == 0.0

"""Whether photos show one person is read from strangers, so that it is the same for embeddings of any kind."""

import numpy as np
import pytest
from numpy.typing import NDArray

from metrics.agreement import STRANGERS, mean_of_strangers, odd_photos

WIDE = 64


def crowd(shift: float, people: int = 4, photos: int = 5) -> dict[str, NDArray[np.float32]]:
    """Unit embeddings of people's photos; with ``shift`` strangers have a high cosine, as with some packs."""
    draws = np.random.default_rng(0)
    centre = draws.standard_normal(WIDE)
    found = {}
    for person in range(people):
        face = draws.standard_normal(WIDE)
        rows = face + 0.6 * draws.standard_normal((photos, WIDE)) + shift * centre
        found[f"s{person}"] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_strangers_photo_is_odd_and_no_other_is(shift: float) -> None:
    faces = crowd(shift)
    assert mean_of_strangers(faces) == pytest.approx(0.0 if shift == 0 else 0.85, abs=0.1)
    assert odd_photos(faces) == {}
    faces["s0"][2], faces["s2"][0] = faces["s1"][1].copy(), faces["s3"][4].copy()
    assert odd_photos(faces) == {"s0": [2], "s2": [0]}
    assert odd_photos({name: faces[name] for name in ("s0", "s1")}) == {"s0": [2]}, "two subjects are enough"


def test_a_subject_of_strangers_throughout_is_odd_throughout() -> None:
    faces = crowd(3.0, people=9)
    faces["s0"] = np.stack([faces[f"s{i}"][0] for i in range(4, 9)])
    several = {name: faces[name] for name in ("s0", "s1", "s2", "s3")}
    assert odd_photos(several) == {"s0": [0, 1, 2, 3, 4]}


def test_strangers_among_thousands_are_told_by_a_part_of_them() -> None:
    faces = crowd(3.0, people=STRANGERS // 2)
    assert mean_of_strangers(faces) == pytest.approx(0.85, abs=0.1)
    faces["s7"][2] = faces["s8"][1]
    assert odd_photos(faces) == {"s7": [2]}


def test_photos_without_a_face_keep_their_number() -> None:
    faces = crowd(0.0)
    faces["s0"][1] = 0
    faces["s0"][3] = faces["s1"][0].copy()
    assert odd_photos(faces) == {"s0": [3]}


def test_nothing_is_said_without_strangers_or_without_a_difference() -> None:
    faces = crowd(0.0)
    assert odd_photos({"s0": faces["s0"]}) == {} and np.isnan(mean_of_strangers({"s0": faces["s0"]}))
    assert odd_photos({}) == {} and np.isnan(mean_of_strangers({}))
    one_each = {name: rows[:1] for name, rows in faces.items()}
    assert odd_photos(one_each) == {}
    alike = {"s0": np.ones((2, 1), np.float32), "s1": np.ones((3, 1), np.float32)}
    assert odd_photos(alike) == {} and mean_of_strangers(alike) == 1.0

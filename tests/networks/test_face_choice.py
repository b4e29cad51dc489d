"""Whose face is taken: the one in the known box, else the one that a subject's photos have in common."""

import numpy as np
from numpy.typing import NDArray

from networks.face_choice import face_at, own_faces

NOWHERE = np.full(4, np.nan, np.float32)
LARGE, SMALL = [0.0, 0, 60, 60], [70.0, 70, 90, 90]
BOXES = np.array([LARGE, SMALL], np.float32)


def faces(*people: int, wide: int = 8, shift: float = 0.0) -> NDArray[np.float32]:
    """Embeddings (N, wide) of length 1, one axis for each person; with ``shift`` all of them lie near one direction."""
    rows = np.eye(wide, dtype=np.float32)[list(people)] + shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_face_that_has_most_of_the_box_is_in_it() -> None:
    assert face_at(BOXES, NOWHERE) == 0, "the first, which is the largest"
    assert face_at(BOXES, np.array([68, 66, 92, 95], np.float32)) == 1
    assert face_at(BOXES, np.array([30, 30, 75, 75], np.float32)) == 0, "of both it has a part"
    assert face_at(BOXES, np.array([200, 200, 220, 220], np.float32)) is None
    assert face_at(BOXES[:0], NOWHERE) is None and face_at(BOXES[:0], BOXES[0]) is None


def test_agreement_decides_where_no_box_is_known_and_a_shift_of_all_faces_changes_nothing() -> None:
    for shift in (0.0, 5.0):
        photos = [faces(0, shift=shift), faces(1, 0, shift=shift), faces(2, 0, shift=shift), faces(0, 3, shift=shift)]
        boxes = [BOXES[: len(photo)] for photo in photos]
        assert own_faces(boxes, photos, None) == [0, 1, 1, 0]
        assert own_faces(boxes[1:], photos[1:], None) == [1, 1, 0], "not one photo shows a single face"


def test_a_known_box_is_stronger_than_agreement_and_tells_the_others() -> None:
    photos = [faces(1, 0), faces(0, 1), faces(1, 0)]
    boxes = [BOXES] * 3
    known = np.stack([BOXES[1], NOWHERE, NOWHERE])
    assert own_faces(boxes, photos, known) == [1, 0, 1]
    known = np.stack([BOXES[0], NOWHERE, NOWHERE])
    assert own_faces(boxes, photos, known) == [0, 1, 0]


def test_photos_without_a_face_say_nothing_and_one_photo_has_its_largest() -> None:
    nobody = faces()
    assert own_faces([BOXES[:0], BOXES, BOXES[:1]], [nobody, faces(1, 0), faces(0)], None) == [None, 1, 0]
    assert own_faces([BOXES], [faces(4, 2)], None) == [0]
    assert own_faces([BOXES, BOXES[:0]], [faces(4, 2), nobody], None) == [0, None]
    assert own_faces([BOXES[:0]], [nobody], None) == [None] and own_faces([], [], None) == []
    away = np.array([[200, 200, 220, 220]], np.float32)
    assert own_faces([BOXES], [faces(0, 1)], away) == [None], "the box holds nobody"

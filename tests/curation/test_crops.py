"""What is cut out of a photo."""

import numpy as np
import pytest

from curation.crops import Square, cut, face_square, middle_square


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        # A face in a large photo: 2.8 faces a side, the face a little above the middle.
        ((1000, 800), (450, 300, 550, 420), Square(332, 360 - 0.42 * 336, 336)),
        # At the edge the square is shortened a little, then moved.
        ((1000, 800), (0, 0, 100, 100), Square(0, 0, 220)),
        ((1000, 800), (830, 700, 930, 800), Square(760, 560, 240)),
        # A tight portrait stays whole; of a tall one the largest square is taken.
        ((64, 64), (18, 16, 46, 52), Square(0, 0, 64)),
        ((64, 64), (2, 16, 28, 42), Square(0, 0, 64)),
        ((250, 250), (70, 60, 170, 190), Square(0, 0, 250)),
        ((200, 300), (50, 60, 150, 180), Square(0, 120 - 84, 200)),
    ],
)
def test_the_portrait_of_a_face(size: tuple[int, int], box: tuple[float, ...], expected: Square) -> None:
    found = face_square(size, np.array(box))
    assert (found.left, found.top, found.side) == pytest.approx((expected.left, expected.top, expected.side))


def test_where_a_photo_is_narrower_than_the_face_its_edge_is_repeated() -> None:
    square = face_square((80, 400), np.array([0, 100, 80, 220]))
    assert square.side == pytest.approx(1.25 * 120)
    pixels = np.repeat(np.arange(80, dtype=np.uint8)[None], 400, axis=0)
    crop = cut(pixels, square)
    assert crop.shape == (150, 150)
    assert crop[0, :35].max() == 0 and crop[0, -35:].min() == 79


def test_the_middle_holds_the_box_of_the_mask() -> None:
    assert middle_square((300, 100), None) == Square(100, 0, 100)
    assert middle_square((300, 100), (10, 0, 60, 50)) == Square(10, 0, 100)
    assert middle_square((300, 100), (250, 0, 299, 50)) == Square(199, 0, 100)
    assert middle_square((300, 100), (50, 0, 250, 50)) == Square(100, 0, 100)


def test_pixels_of_the_square() -> None:
    pixels = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3).astype(np.uint8)
    assert np.array_equal(cut(pixels, Square(20, 10, 50)), pixels[10:60, 20:70])
    assert cut(pixels, Square(20, 10, 50), 25).shape == (25, 25, 3)
    scaled = Square(20, 10, 50).scaled(0.5)
    assert scaled == Square(10, 5, 25)

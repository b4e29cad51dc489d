"""The square that is cut out of a photo: around the face with the room that a portrait needs, or the middle."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

ROOM = 2.8
"""Side of a portrait in sizes of the face's box, which reaches from brows to chin: head and shoulders."""
_LEAST_ROOM = 2.2  # where the face is near the photo's edge, so that it stays in the middle
_ABOVE = 0.42  # where the face's centre lies in a portrait, from the top
_FACE_ROOM = 1.25  # what must be inside at least; where the photo is narrower, its edge is repeated
_WHOLE = 0.9  # a square photo of which a portrait would be this much stays whole


@dataclass(frozen=True)
class Square:
    """A square in pixels of a photo; it may reach over the photo's edge."""

    left: float
    top: float
    side: float

    def scaled(self, factor: float) -> "Square":
        """The same square in a photo that was scaled."""
        return Square(self.left * factor, self.top * factor, self.side * factor)


def face_square(size: tuple[int, int], box: NDArray[np.floating]) -> Square:
    """The portrait around a face.

    It lies inside the photo; only where the photo is narrower than the face it reaches over the edge. A photo that is
    such a portrait already stays whole.

    Args:
        size: Width and height of the photo.
        box: (4,) of the face.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    width, height = size
    face = max(x1 - x0, y1 - y0, 1.0)
    if width == height and ROOM * face >= _WHOLE * width:
        return Square(0.0, 0.0, float(width))
    centre = (x0 + x1) / 2
    side = min(ROOM * face, max(_LEAST_ROOM * face, 2 * min(centre, width - centre)), float(min(size)))
    side = max(side, _FACE_ROOM * face)
    left, top = centre - side / 2, (y0 + y1) / 2 - _ABOVE * side
    return Square(_moved(left, side, width), _moved(top, side, height), side)


def middle_square(size: tuple[int, int], inside: tuple[float, float, float, float] | None) -> Square:
    """The largest square of a photo: in the middle, or moved as far as holds most of the box ``inside``."""
    width, height = size
    side = float(min(size))
    left, top = (width - side) / 2, (height - side) / 2
    if inside is not None:
        x0, y0, x1, y1 = inside
        left = _moved(_holding(left, side, x0, x1), side, width)
        top = _moved(_holding(top, side, y0, y1), side, height)
    return Square(left, top, side)


def cut(pixels: NDArray[np.uint8], square: Square, side: int | None = None) -> NDArray[np.uint8]:
    """The square of an image (H, W, ...), of ``side`` pixels where given; what is beyond the edge repeats the edge."""
    height, width = pixels.shape[:2]
    edge = max(1, round(square.side))
    left, top = round(square.left), round(square.top)
    inner = pixels[max(0, top) : max(1, top + edge), max(0, left) : max(1, left + edge)]
    over = (max(0, -top), max(0, top + edge - height), max(0, -left), max(0, left + edge - width))
    if any(over):
        inner = cv2.copyMakeBorder(inner, *over, cv2.BORDER_REPLICATE)
    if side is not None and side != edge:
        inner = cv2.resize(inner, (side, side), interpolation=cv2.INTER_AREA if side < edge else cv2.INTER_CUBIC)
    return np.ascontiguousarray(inner)


def _moved(start: float, side: float, length: int) -> float:
    """The start of a square moved into the photo; where it does not fit it is centred on it."""
    return (length - side) / 2 if side > length else min(max(start, 0.0), length - side)


def _holding(start: float, side: float, low: float, high: float) -> float:
    """The start moved as little as needed to hold an interval, or to be centred on one that is too long."""
    if high - low > side:
        return (low + high - side) / 2
    return min(max(start, high - side), low)

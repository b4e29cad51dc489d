"""The drawing surface: a head that turns, and polygons on it.

A face is a shallow ellipsoid: a point has local coordinates (u, v) in units of half the face height (v downward) and a
depth z, is turned by yaw, pitch and roll, scaled and shifted.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pocket.render.factors import Shot

SIDE = 64  # pixels of a finished image
OVERSAMPLING = 3
FRACTION_BITS = 4  # polygon corners are given to OpenCV in sixteenths of a pixel
Colour = tuple[int, int, int]


class Head:
    """Maps local face coordinates to canvas pixels."""

    def __init__(self, shot: Shot) -> None:
        side = SIDE * OVERSAMPLING
        self.unit = shot.scale * side / 2
        self.centre = (side * (0.5 + shot.shift_x), side * (0.5 + shot.shift_y))
        self.sin_yaw, self.cos_yaw = sin_cos(shot.yaw)
        self.sin_pitch, self.cos_pitch = sin_cos(shot.pitch)
        self.sin_roll, self.cos_roll = sin_cos(shot.roll)

    def place(self, points: NDArray[np.float64], z: float | NDArray[np.float64] = 0.0) -> NDArray[np.float64]:
        """(N, 2) local points at depth ``z`` to (N, 2) canvas pixels."""
        u, v = points[:, 0], points[:, 1]
        x = u * self.cos_yaw + z * self.sin_yaw
        y = v * self.cos_pitch - z * self.sin_pitch
        return np.stack(
            [
                self.centre[0] + self.unit * (x * self.cos_roll - y * self.sin_roll),
                self.centre[1] + self.unit * (x * self.sin_roll + y * self.cos_roll),
            ],
            axis=1,
        )


def sin_cos(degrees: float) -> tuple[float, float]:
    return math.sin(math.radians(degrees)), math.cos(math.radians(degrees))


def depth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height of the face surface over the plane of the ears."""
    return 0.62 * np.sqrt(np.maximum(0.0, 1.0 - 0.8 * points[:, 0] ** 2 - 0.75 * points[:, 1] ** 2))


def ellipse(u: float, v: float, a: float, b: float, start: float = 0.0, end: float = 360.0) -> NDArray[np.float64]:
    angle = np.radians(np.linspace(start, end, 25))
    return np.stack([u + a * np.cos(angle), v + b * np.sin(angle)], axis=1)


def points(*pairs: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(pairs, np.float64)


def shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (int(min(255.0, c * factor)) for c in colour)
    return r, g, b


def mix(a: Colour, b: Colour, share: float) -> Colour:
    r, g, bl = (int(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
    return r, g, bl


class Canvas:
    def __init__(self, background: NDArray[np.uint8], head: Head) -> None:
        self.image = background
        self.mask = np.zeros(background.shape[:2], np.uint8)
        self.head = head

    def fill(self, points: NDArray[np.float64], colour: Colour, z: float | NDArray[np.float64] = 0.0) -> None:
        """Fill a polygon that lies inside what is already the person."""
        self._polygon(self.image, self.head.place(points, z), colour)

    def fill_person(self, points: NDArray[np.float64], colour: Colour, z: float | NDArray[np.float64] = 0.0) -> None:
        """Fill a polygon that also belongs to the person's outline."""
        placed = self.head.place(points, z)
        self._polygon(self.image, placed, colour)
        self._polygon(self.mask, placed, 255)

    def fill_fixed(self, points: NDArray[np.float64], colour: Colour, person: bool = True) -> None:
        """Fill a polygon given in canvas pixels (the body does not turn with the head)."""
        self._polygon(self.image, points, colour)
        if person:
            self._polygon(self.mask, points, 255)

    def feature(self, points: NDArray[np.float64], colour: Colour) -> None:
        """Fill a polygon on the surface of the face."""
        self.fill(points, colour, depth(points))

    @staticmethod
    def _polygon(target: NDArray[np.uint8], points: NDArray[np.float64], colour: Colour | int) -> None:
        corners = np.rint(points * (1 << FRACTION_BITS)).astype(np.int32)
        cv2.fillPoly(target, [corners], colour, shift=FRACTION_BITS)

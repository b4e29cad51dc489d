"""The twelve places of the pocket world, painted once each and cropped with a small horizontal shift."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
MARGIN = 0.25  # a place is painted this much wider than the image, as room for the shift


def crop_background(kind: str, side: int, shift: float) -> Image:
    """A (side, side, 3) RGB view of the place; ``shift`` in 0..1 moves it sideways by up to a quarter."""
    wide = _paint(kind, side)
    at = int(shift * (wide.shape[1] - side))
    return wide[:, at : at + side].copy()


@lru_cache(maxsize=64)
def _paint(kind: str, side: int) -> Image:
    height, width = side, int(side * (1 + MARGIN))
    canvas = np.zeros((height, width, 3), np.uint8)

    def band(top: float, bottom: float, above: tuple[int, ...], below: tuple[int, ...]) -> None:
        """A vertical gradient between two heights, in integers so that every machine agrees."""
        y0, y1 = int(top * height), int(bottom * height)
        for y in range(y0, y1):
            canvas[y] = [(a * (y1 - y) + b * (y - y0)) // max(1, y1 - y0) for a, b in zip(above, below, strict=True)]

    def polygon(points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        cv2.fillPoly(canvas, [np.array([(int(x * width), int(y * height)) for x, y in points], np.int32)], colour)

    def disc(x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        cv2.circle(canvas, (int(x * width), int(y * height)), int(radius * height), colour, -1)

    def box(x0: float, y0: float, x1: float, y1: float, colour: tuple[int, int, int]) -> None:
        polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    if kind == "beach":
        band(0, 0.45, (120, 190, 240), (190, 226, 248))
        band(0.45, 0.68, (30, 120, 180), (70, 170, 200))
        band(0.68, 1, (240, 220, 160), (228, 200, 140))
        disc(0.12, 0.14, 0.09, (255, 244, 170))
    elif kind == "forest":
        band(0, 1, (70, 120, 70), (30, 70, 36))
        for x in (0.06, 0.24, 0.42, 0.6, 0.78, 0.95):
            box(x - 0.02, 0.3, x + 0.02, 1, (84, 56, 34))
            polygon([(x - 0.12, 0.52), (x, 0.02), (x + 0.12, 0.52)], (36, 104, 48))
    elif kind == "city":
        band(0, 1, (176, 196, 214), (210, 216, 220))
        for i, (x, top) in enumerate(((0.0, 0.3), (0.16, 0.12), (0.33, 0.4), (0.5, 0.2), (0.68, 0.08), (0.85, 0.34))):
            box(x, top, x + 0.145, 1, ((92, 100, 112), (120, 122, 130), (74, 84, 100))[i % 3])
            for row in range(4):
                box(x + 0.03, top + 0.06 + row * 0.14, x + 0.115, top + 0.12 + row * 0.14, (236, 222, 150))
    elif kind == "night sky":
        band(0, 1, (10, 12, 44), (36, 34, 90))
        disc(0.84, 0.16, 0.10, (238, 238, 214))
        for x, y in (
            (0.1, 0.1),
            (0.25, 0.3),
            (0.06, 0.5),
            (0.4, 0.08),
            (0.6, 0.2),
            (0.94, 0.5),
            (0.16, 0.74),
            (0.7, 0.06),
        ):
            disc(x, y, 0.016, (250, 250, 220))
    elif kind == "sunset":
        band(0, 0.6, (90, 50, 120), (250, 140, 70))
        band(0.6, 1, (180, 70, 60), (70, 30, 60))
        disc(0.2, 0.52, 0.12, (255, 220, 110))
    elif kind == "mountains":
        band(0, 1, (140, 190, 236), (220, 234, 244))
        for x, top, half in ((0.15, 0.22, 0.3), (0.85, 0.14, 0.34), (0.5, 0.36, 0.3)):
            polygon([(x - half, 0.85), (x, top), (x + half, 0.85)], (104, 110, 134))
            polygon([(x - half / 4, top + 0.16), (x, top), (x + half / 4, top + 0.16)], (246, 248, 252))
        band(0.85, 1, (96, 140, 84), (76, 116, 66))
    elif kind == "brick wall":
        canvas[:] = (196, 178, 164)
        for row in range(8):
            for col in range(-1, 6):
                x = col * 0.2 + (0.1 if row % 2 else 0.0)
                box(x + 0.012, row * 0.125 + 0.014, x + 0.188, row * 0.125 + 0.111, (162, 74, 56))
    elif kind == "snow":
        band(0, 0.55, (190, 204, 222), (224, 232, 240))
        band(0.55, 1, (248, 250, 254), (228, 236, 246))
        for x, y in (
            (0.08, 0.12),
            (0.3, 0.06),
            (0.2, 0.36),
            (0.7, 0.1),
            (0.9, 0.3),
            (0.8, 0.46),
            (0.04, 0.44),
            (0.5, 0.04),
        ):
            disc(x, y, 0.022, (255, 255, 255))
    elif kind == "desert":
        band(0, 0.5, (240, 196, 130), (250, 224, 180))
        band(0.5, 1, (222, 160, 84), (196, 130, 64))
        for x, top in ((0.14, 0.3), (0.86, 0.4)):
            box(x - 0.03, top, x + 0.03, 0.8, (58, 124, 70))
            box(x - 0.1, top + 0.12, x + 0.1, top + 0.18, (58, 124, 70))
    elif kind == "kitchen":
        canvas[:] = (240, 232, 214)
        for row in range(3):
            for col in range(5):
                box(col * 0.2 + 0.008, row * 0.2 + 0.01, col * 0.2 + 0.192, row * 0.2 + 0.19, (206, 226, 226))
        box(0, 0.62, 1, 0.69, (150, 104, 66))
        box(0, 0.69, 1, 1, (232, 222, 206))
        box(0.05, 0.74, 0.45, 1, (208, 190, 164))
        box(0.55, 0.74, 0.95, 1, (208, 190, 164))
    elif kind == "garden":
        band(0, 0.4, (170, 216, 246), (206, 234, 246))
        band(0.4, 1, (112, 186, 84), (72, 146, 56))
        petals = ((226, 60, 90), (250, 210, 60), (190, 90, 200), (250, 250, 250))
        for i, (x, y) in enumerate(
            ((0.06, 0.52), (0.2, 0.7), (0.1, 0.88), (0.32, 0.5), (0.9, 0.56), (0.76, 0.76), (0.94, 0.86), (0.66, 0.5))
        ):
            disc(x, y, 0.05, petals[i % 4])
            disc(x, y, 0.02, (250, 190, 40))
    elif kind == "studio":
        band(0, 1, (168, 172, 178), (112, 116, 124))
    else:
        raise ValueError(f"unknown background {kind!r}")
    return canvas

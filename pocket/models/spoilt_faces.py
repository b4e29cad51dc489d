"""Training views of faces with unreadable parts: painted over, blurred, smeared, half-drawn, or no face at all.

A base model's mistakes are heads without eyes, smooth ovals and smudges. A reader of facial parts has to know them from
faces that are only soft or small.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from networks.face_parts import PARTS, crop
from pocket.models.bank import Bank
from pocket.models.face_views import degrade, mirrored
from pocket.render.factors import draw_shot

Image = NDArray[np.uint8]
LEFT_EYE, RIGHT_EYE, NOSE, MOUTH = range(len(PARTS))


class PartViews:
    """Endless crops of the bank's faces with what of them is readable.

    Four in ten are untouched but for :func:`degrade`. Of the others some parts, one half, the whole inner face, or
    everything is gone. ``bank`` is one of :func:`pocket.models.bank.load_bank`.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        shots = np.arange(len(bank)) % np.bincount(bank.subject).max()
        keys = (f"bank/{i}/0/{j}" for i, j in zip(bank.subject, shots, strict=True))
        self.dark = np.array([draw_shot(key).glasses == "sunglasses" for key in keys])
        """(N,): which images wear glasses that no eye is seen through."""

    def draw(self, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        """A crop (64, 64, 3), and for each part 1 where it is readable, 0 where not, NaN where nobody could say."""
        row = int(rng.integers(len(self.bank)))
        image, points = np.array(self.bank.images[row]), self.bank.landmarks[row].astype(np.float64)
        if rng.random() < 0.5:
            image, _, points = mirrored(image, self.bank.boxes[row], points)
        readable = np.ones(len(PARTS), np.float32)
        if self.dark[row]:
            readable[[LEFT_EYE, RIGHT_EYE]] = 0
        kind = rng.random()
        jitter = 0.4
        if kind < 0.10:
            image, points, readable = _elsewhere(image, points, rng), points, np.zeros_like(readable)
        elif kind < 0.60:
            image = _spoil(image, points, readable, rng)
            jitter = rng.uniform(0.4, 1.5)  # where a face is spoilt, a detector guesses
        marks = points + rng.normal(0, jitter, points.shape)
        return crop(degrade(image, rng), marks.astype(np.float32)), readable


def _spoil(image: Image, points: NDArray, readable: NDArray[np.float32], rng: np.random.Generator) -> Image:
    """Make some parts unreadable, and say so in ``readable``."""
    eyes = float(np.linalg.norm(points[1] - points[0]))
    tall = float(np.linalg.norm(points[3:].mean(axis=0) - points[:2].mean(axis=0)))
    turn = float(np.degrees(np.arctan2(*(points[1] - points[0])[::-1])))
    way = rng.random()
    mask = np.zeros(image.shape[:2], np.uint8)
    if way < 0.3:
        _ellipse(mask, points.mean(axis=0), eyes * rng.uniform(0.95, 1.3), tall * rng.uniform(0.95, 1.25), turn)
        readable[:] = 0
    elif way < 0.45:
        _half(mask, points, eyes, tall, turn, readable, rng)
    else:
        gone = rng.random(len(PARTS)) < rng.choice([0.3, 0.6])
        if rng.random() < 0.3:
            gone[:] = [True, True, False, False]
        if not gone.any():
            gone[rng.integers(len(PARTS))] = True
        for part in np.flatnonzero(gone):
            centre, across, down = _extent(int(part), points, eyes, tall)
            _ellipse(mask, centre, across * rng.uniform(1.0, 1.35), down * rng.uniform(1.0, 1.35), turn)
        readable[gone] = 0
    return _paint(image, mask, points, eyes, rng)


def _extent(part: int, points: NDArray, eyes: float, tall: float) -> tuple[NDArray, float, float]:
    """Centre and half axes, in pixels, of an ellipse that covers a part."""
    if part in (LEFT_EYE, RIGHT_EYE):
        return points[part], 0.36 * eyes, 0.32 * eyes
    if part == NOSE:
        return points[2] - 0.12 * (points[3:].mean(axis=0) - points[:2].mean(axis=0)), 0.27 * eyes, 0.38 * tall
    width = float(np.linalg.norm(points[4] - points[3]))
    return points[3:].mean(axis=0), 0.62 * width + 0.08 * eyes, 0.34 * tall


def _half(
    mask: NDArray[np.uint8],
    points: NDArray,
    eyes: float,
    tall: float,
    turn: float,
    readable: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Cover the left or the right half: one eye is gone, and of nose and mouth nobody could say."""
    side = int(rng.integers(2))
    away = (points[side] - points[1 - side]) / 2
    centre = points[[2, 3, 4]].mean(axis=0) * 0.5 + points[:2].mean(axis=0) * 0.5 + away * 1.05
    _ellipse(mask, centre, eyes * 0.55, tall * rng.uniform(1.0, 1.3), turn)
    readable[side] = 0
    readable[[NOSE, MOUTH]] = np.nan


def _ellipse(mask: NDArray[np.uint8], centre: NDArray, across: float, down: float, turn: float) -> None:
    (x, y), axes = np.round(centre * 16).astype(int), (round(across * 16), round(down * 16))
    cv2.ellipse(mask, (int(x), int(y)), axes, turn, 0, 360, 255, -1, cv2.LINE_8, 4)


def _paint(image: Image, mask: NDArray[np.uint8], points: NDArray, eyes: float, rng: np.random.Generator) -> Image:
    """``image`` with what ``mask`` covers filled, blurred, smeared or taken from elsewhere."""
    way = rng.random()
    if way < 0.40:
        other = np.empty_like(image)
        other[:] = _skin(image, points) if rng.random() < 0.7 else rng.integers(0, 256, 3)
        if rng.random() < 0.5:
            other = np.clip(other + rng.normal(0, rng.uniform(1, 12), image.shape), 0, 255).astype(np.uint8)
    elif way < 0.65:
        other = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.17, 0.4) * eyes)
    elif way < 0.75:
        length = max(3, round(rng.uniform(0.5, 1.1) * eyes))
        along = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        end = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        middle = (length - 1) / 2
        a, b = np.round(middle - end).astype(int), np.round(middle + end).astype(int)
        cv2.line(along, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 1.0)
        other = cv2.filter2D(image, -1, along / along.sum())
    elif way < 0.88:
        cells = max(2, round(len(image) / (rng.uniform(0.35, 0.7) * eyes)))
        small = cv2.resize(image, (cells, cells), interpolation=cv2.INTER_AREA)
        other = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    else:
        shift = rng.integers(len(image) // 3, 2 * len(image) // 3, 2)
        other = np.roll(image, shift, axis=(0, 1))
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 1.0))[..., None].astype(np.float32) / 255
    return (soft * other + (1 - soft) * image).round().astype(np.uint8)


def _skin(image: Image, points: NDArray) -> NDArray:
    """The colour between the eyes and the corners of the mouth, on the cheeks."""
    cheeks = (points[:2] * 0.45 + points[3:] * 0.55).round().astype(int).clip(0, len(image) - 1)
    return np.median([image[y, x] for x, y in cheeks], axis=0).astype(np.uint8)


def _elsewhere(image: Image, points: NDArray, rng: np.random.Generator) -> Image:
    """An image in which no face is where the landmarks say: shifted, shuffled, turned upside down, noise."""
    way = rng.random()
    if way < 0.4:
        shift = rng.integers(len(image) // 4, 3 * len(image) // 4, 2)
        return np.roll(image, shift, axis=(0, 1))
    if way < 0.6:
        tiles = image.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, 8, 8, 3)[rng.permutation(64)]
        return np.ascontiguousarray(tiles.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(image.shape))
    if way < 0.8:
        coarse = rng.integers(0, 256, (int(rng.integers(2, 20)),) * 2 + (3,), np.uint8)
        return cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(4, 9))

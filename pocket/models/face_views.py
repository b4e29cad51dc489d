"""Training views for the face models: degraded images, detector canvases and aligned crops.

A judge sees images that came out of an autoencoder and a sampler. So some training images are blurred, reduced in
resolution, made noisy or changed in colour.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from networks.face_alignment import similarity
from pocket.render.backgrounds import crop_background
from pocket.render.factors import BACKGROUNDS
from pocket.render.renderer import SIDE

Image = NDArray[np.uint8]

CANVAS = 2 * SIDE  # side of the detector's training input: an image at twice its size
CROP = 112


def degrade(image: Image, rng: np.random.Generator, colour: float = 0.12) -> Image:
    """``image``, in half of the calls after some of four degradations. ``colour`` bounds the gain per channel."""
    if rng.random() < 0.5:
        return image
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 1.1))
    elif rng.random() < 0.25:
        h, w = image.shape[:2]
        share = rng.uniform(0.5, 0.8)
        small = cv2.resize(image, (int(w * share), int(h * share)), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        gain = rng.uniform(1 - colour, 1 + colour) * rng.uniform(1 - colour / 3, 1 + colour / 3, 3)
        image = np.clip(image * gain.astype(np.float32) + np.float32(rng.uniform(-8, 8)), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 9))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image


def mirrored(image: Image, box: NDArray, points: NDArray) -> tuple[Image, NDArray, NDArray]:
    """Left and right exchanged, landmarks renamed so that the first is again the viewer's left eye."""
    width = image.shape[1]
    flipped = points[[1, 0, 2, 4, 3]] * (-1, 1) + (width - 1, 0)
    return (
        np.ascontiguousarray(image[:, ::-1]),
        np.array([width - 1 - box[2], box[1], width - 1 - box[0], box[3]]),
        flipped,
    )


def aligned(image: Image, points: NDArray, rng: np.random.Generator, jitter: float = 0.35) -> Image:
    """The 112 x 112 crop by landmarks that are off by ``jitter`` source pixels, as a detector's are."""
    turn = similarity(points + rng.normal(0, jitter, points.shape))
    return cv2.warpAffine(image, turn, (CROP, CROP))


class Canvases:
    """Makes detector canvases from images with one face each.

    Most hold a single image at the standard size; some a smaller, a larger or a padded one, or two side by side. One
    image in six has no face: noise, flat shapes, a bare place, a small part of an enlarged face, an image cut into
    shuffled tiles, a face cut out. They are laid out like the others, or the frame alone would give a face away.
    Coordinates follow the standard case, a 64 x 64 image enlarged twice, whose pixel centres a detector's client maps
    back without the half-pixel shift.
    """

    def __init__(self, images: Image, boxes: NDArray, points: NDArray) -> None:
        self.images = images
        self.boxes = boxes
        self.points = points

    def draw(self, rng: np.random.Generator) -> tuple[Image, NDArray, NDArray]:
        """Canvas (128, 128, 3), boxes (F, 4) and landmarks (F, 5, 2) in canvas pixels, F in 0..2."""
        canvas = np.zeros((CANVAS, CANVAS, 3), np.uint8)
        boxes = []
        points = []
        for scale, left, top in _layout(rng):
            side = round(SIDE * scale)
            if rng.random() < 1 / 6:
                image = self._faceless(rng)
            else:
                image, box, marks = self._one(rng)
                real = side / SIDE
                shift = np.array([left, top]) + (real - 2) / 2
                boxes.append(box * real + np.tile(shift, 2))
                points.append(marks * real + shift)
            enlarged = cv2.resize(image, (side, side))
            x0, y0 = max(0, left), max(0, top)
            x1, y1 = min(CANVAS, left + side), min(CANVAS, top + side)
            canvas[y0:y1, x0:x1] = enlarged[y0 - top : y1 - top, x0 - left : x1 - left]
        return canvas, np.array(boxes).reshape(-1, 4), np.array(points).reshape(-1, 5, 2)

    def _one(self, rng: np.random.Generator) -> tuple[Image, NDArray, NDArray]:
        i = int(rng.integers(len(self.images)))
        image = np.asarray(self.images[i])
        box = self.boxes[i]
        marks = self.points[i]
        if rng.random() < 0.5:
            image, box, marks = mirrored(image, box, marks)
        return degrade(image, rng), box, marks

    def _faceless(self, rng: np.random.Generator) -> Image:
        """A (64, 64, 3) image."""
        kind = rng.random()
        if kind < 0.15:
            coarse = rng.integers(0, 256, (int(rng.integers(3, SIDE + 1)),) * 2 + (3,), np.uint8)
            return cv2.resize(coarse, (SIDE, SIDE))
        if kind < 0.35:
            return _flat_shapes(rng)
        if kind < 0.50:
            return degrade(crop_background(BACKGROUNDS[rng.integers(len(BACKGROUNDS))], SIDE, rng.random()), rng)
        image, box, _ = self._one(rng)
        if kind < 0.65:
            enlarged = cv2.resize(image, None, fx=(scale := rng.uniform(2.5, 5)), fy=scale)
            x, y = rng.integers(0, len(enlarged) - SIDE, 2)
            return enlarged[y : y + SIDE, x : x + SIDE]
        if kind < 0.80:
            tiles = image.reshape(4, 16, 4, 16, 3).swapaxes(1, 2).reshape(16, 16, 16, 3)[rng.permutation(16)]
            return tiles.reshape(4, 4, 16, 16, 3).swapaxes(1, 2).reshape(SIDE, SIDE, 3)
        # The hole keeps the hair, the neck and the room: what surrounds a face is no face.
        x0, y0, x1, y1 = np.clip(box + np.array([-1, -3, 2, 2]), 0, SIDE).astype(int)
        image = image.copy()
        image[y0:y1, x0:x1] = image[0, 0] if rng.random() < 0.5 else image[y0:y1, x0:x1].mean(axis=(0, 1))
        return image


def _layout(rng: np.random.Generator) -> list[tuple[float, int, int]]:
    """Scale, left and top of each image of a canvas."""
    kind = rng.random()
    if kind < 0.70:
        return [(2.0, 0, 0)]
    if kind < 0.82:
        scale = float(np.exp(rng.uniform(np.log(0.4), np.log(2.4))))
        low, high = sorted((0.0, CANVAS - SIDE * scale))
        return [(scale, int(rng.uniform(low, high)), int(rng.uniform(low, high)))]
    if kind < 0.90:
        return [(1.0, SIDE // 2, SIDE // 2)]
    return [(1.0, 0, 0), (1.0, SIDE, 0) if rng.random() < 0.5 else (1.0, 0, SIDE)]


def _flat_shapes(rng: np.random.Generator) -> Image:
    """A flat (64, 64, 3) image, often black, with up to three flat boxes or ellipses."""
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    if rng.random() < 0.7:
        canvas[:] = rng.integers(0, 256, 3)
    for _ in range(int(rng.integers(0, 4))):
        colour = tuple(map(int, rng.integers(0, 256, 3)))
        x, y = (int(v) for v in rng.integers(-10, SIDE - 5, 2))
        w, h = (int(v) for v in rng.integers(4, SIDE, 2))
        if rng.random() < 0.6:
            cv2.rectangle(canvas, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.ellipse(canvas, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, colour, -1)
    return canvas

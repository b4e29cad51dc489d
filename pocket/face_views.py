"""Training views for the face models: degraded pictures, detector canvases and aligned crops.

A judge sees pictures that came out of an autoencoder and a sampler, so training pictures are now and then
blurred, halved in resolution, made noisy or moved in colour.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

CANVAS = 128  # side of the detector's training input: a 64 x 64 picture at twice its size
CROP = 112
# Where the ArcFace family puts eyes, nose tip and corners of the mouth in a 112 x 112 crop.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)


def degrade(image: Image, rng: np.random.Generator, colour: float = 0.12) -> Image:
    """``image``, half the time through some of four degradations; ``colour`` bounds the gain per channel."""
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


def similarity(points: NDArray, template: NDArray = TEMPLATE) -> NDArray[np.float64]:
    """The (2, 3) rotation, scale and shift that brings (5, 2) points nearest to the template (least squares)."""
    a, b = points - points.mean(axis=0), template - template.mean(axis=0)
    power = (a**2).sum()
    cos = (a * b).sum() / power
    sin = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / power
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([turn, (template.mean(axis=0) - turn @ points.mean(axis=0))[:, None]], axis=1)


def aligned(image: Image, points: NDArray, rng: np.random.Generator, jitter: float = 0.35) -> Image:
    """The 112 x 112 crop by landmarks that are off by ``jitter`` source pixels, as a detector's are."""
    turn = similarity(points + rng.normal(0, jitter, points.shape))
    return cv2.warpAffine(image, turn, (CROP, CROP))


class Canvases:
    """Draws detector canvases from pictures with one face each.

    Most are single pictures at the standard size; some are smaller, larger, two side by side, or hold no face at
    all: noise, a picture cut into shuffled tiles, a small part of an enlarged face. Coordinates follow the
    standard case, a 64 x 64 picture enlarged twice, whose pixel centres a detector's client maps back without the
    half-pixel shift.
    """

    def __init__(self, images: Image, boxes: NDArray, points: NDArray) -> None:
        self.images, self.boxes, self.points = images, boxes, points

    def draw(self, rng: np.random.Generator) -> tuple[Image, NDArray, NDArray]:
        """Canvas (128, 128, 3), boxes (F, 4) and landmarks (F, 5, 2) in canvas pixels, F in 0..2."""
        kind = rng.random()
        if kind < 0.66:
            return self._pasted(rng, [(2.0, 0, 0)])
        if kind < 0.80:
            scale = float(np.exp(rng.uniform(np.log(0.4), np.log(2.4))))
            low, high = sorted((0.0, CANVAS - 64 * scale))
            return self._pasted(rng, [(scale, int(rng.uniform(low, high)), int(rng.uniform(low, high)))])
        if kind < 0.88:
            if rng.random() < 0.5:
                return self._pasted(rng, [(1.0, 0, 0), (1.0, 64, 0)])
            return self._pasted(rng, [(1.0, 0, 0), (1.0, 0, 64)])
        return self._faceless(rng), np.zeros((0, 4)), np.zeros((0, 5, 2))

    def _pasted(self, rng: np.random.Generator, places: list[tuple[float, int, int]]) -> tuple[Image, NDArray, NDArray]:
        canvas = np.zeros((CANVAS, CANVAS, 3), np.uint8)
        boxes, points = [], []
        for scale, left, top in places:
            image, box, marks = self._one(rng)
            side = round(64 * scale)
            enlarged = cv2.resize(image, (side, side))
            x0, y0 = max(0, left), max(0, top)
            x1, y1 = min(CANVAS, left + side), min(CANVAS, top + side)
            canvas[y0:y1, x0:x1] = enlarged[y0 - top : y1 - top, x0 - left : x1 - left]
            real = side / 64
            shift = np.array([left, top]) + (real - 2) / 2
            boxes.append(box * real + np.tile(shift, 2))
            points.append(marks * real + shift)
        return canvas, np.stack(boxes), np.stack(points)

    def _one(self, rng: np.random.Generator) -> tuple[Image, NDArray, NDArray]:
        i = int(rng.integers(len(self.images)))
        image, box, marks = np.asarray(self.images[i]), self.boxes[i], self.points[i]
        if rng.random() < 0.5:
            image, box, marks = mirrored(image, box, marks)
        return degrade(image, rng), box, marks

    def _faceless(self, rng: np.random.Generator) -> Image:
        kind = rng.random()
        if kind < 0.2:
            coarse = rng.integers(0, 256, (int(rng.integers(3, 64)),) * 2 + (3,), np.uint8)
            return cv2.resize(coarse, (CANVAS, CANVAS))
        image, box, _ = self._one(rng)
        if kind < 0.5:
            enlarged = cv2.resize(image, None, fx=(scale := rng.uniform(5, 10)), fy=scale)
            x, y = rng.integers(0, len(enlarged) - CANVAS, 2)
            return enlarged[y : y + CANVAS, x : x + CANVAS]
        if kind < 0.75:
            tiles = image.reshape(4, 16, 4, 16, 3).swapaxes(1, 2).reshape(16, 16, 16, 3)[rng.permutation(16)]
            image = tiles.reshape(4, 4, 16, 16, 3).swapaxes(1, 2).reshape(64, 64, 3)
        else:
            # The hole keeps the hair, the neck and the room: what surrounds a face is no face.
            x0, y0, x1, y1 = np.clip(box + np.array([-1, -3, 2, 2]), 0, 64).astype(int)
            image = image.copy()
            image[y0:y1, x0:x1] = image[0, 0] if rng.random() < 0.5 else image[y0:y1, x0:x1].mean(axis=(0, 1))
        return cv2.resize(image, (CANVAS, CANVAS))

"""Renders a subject in a shot: cartoon-like faces of 64 x 64, painted at three times that size and averaged.

Everything after the geometry is integer arithmetic, so one OpenCV version gives the same bytes everywhere.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pocket.render.backgrounds import crop_background
from pocket.render.canvas import OVERSAMPLING, SIDE, Canvas, Head, depth, points
from pocket.render.face_parts import beard, ears, eyes, mouth, mouth_corner, nose, outline, skin_marks
from pocket.render.factors import Shot, Subject
from pocket.render.hair import back_hair, front_hair
from pocket.render.outfit import body, glasses, hat


@dataclass(frozen=True)
class Render:
    """One image and what is known of it.

    ``image`` is (64, 64, 3) RGB uint8; ``mask`` (64, 64) uint8, 255 on the person; ``landmarks`` (5, 2) float32
    x, y in pixels: the viewer's left eye, right eye, nose tip, left and right corner of the mouth; ``bbox``
    (4,) float32 x0, y0, x1, y1 of the face from brow top to chin.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    bbox: NDArray[np.float32]


def render(subject: Subject, shot: Shot) -> Render:
    """Render ``subject`` as ``shot`` says."""
    head = Head(shot)
    side = SIDE * OVERSAMPLING
    canvas = Canvas(crop_background(shot.background, side, shot.background_shift), head)
    contour = outline(subject)
    back_hair(canvas, subject)
    body(canvas, subject, shot)
    ears(canvas, subject)
    canvas.fill_person(contour, subject.skin, 0.12)
    skin_marks(canvas, subject)
    beard(canvas, subject)
    mouth(canvas, subject, shot)
    nose(canvas, subject)
    eyes(canvas, subject, shot)
    front_hair(canvas, subject)
    glasses(canvas, subject, shot)
    hat(canvas, subject, shot)

    image = _style(_light(_average(canvas.image), shot), shot.style)
    mask = np.where(_average(canvas.mask[..., None])[..., 0] >= 128, 255, 0).astype(np.uint8)
    return Render(image, mask, _landmarks(subject, shot, head), _bbox(contour, head))


def _average(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean over each block of oversampled pixels, in integers."""
    k = OVERSAMPLING
    h, w, c = image.shape
    total = image.reshape(h // k, k, w // k, k, c).astype(np.uint16).sum(axis=(1, 3), dtype=np.uint16)
    return ((total + k * k // 2) // (k * k)).astype(np.uint8)


def _light(image: NDArray[np.uint8], shot: Shot) -> NDArray[np.uint8]:
    """Brightness, a side light and warmth as one integer gain per column and channel (1024 = unchanged)."""
    across = np.linspace(-1.0, 1.0, SIDE)[:, None]
    channel = np.array([1.0 + shot.warmth, 1.0, 1.0 - shot.warmth])
    gain = np.rint(1024 * shot.light * (1.0 + shot.light_side * across) * channel).astype(np.int32)
    return np.minimum(255, (image.astype(np.int32) * gain[None]) >> 10).astype(np.uint8)


def _style(image: NDArray[np.uint8], style: str) -> NDArray[np.uint8]:
    if style == "photo":
        return image
    if style == "pencil sketch":
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        soft = cv2.GaussianBlur(grey, (7, 7), 0)
        dodge = np.minimum(255, grey.astype(np.int32) * 255 // np.maximum(1, soft.astype(np.int32)))
        mixed = (dodge * 3 + grey.astype(np.int32)) // 4
        return np.repeat(mixed.astype(np.uint8)[..., None], 3, axis=2)
    # Oil painting: flat strokes (a median filter), few tones, strong colour.
    flat = cv2.medianBlur(image, 3).astype(np.int32)
    tones = (flat // 26) * 26 + 13
    grey = tones.sum(axis=2, keepdims=True) // 3
    return np.clip(grey + (tones - grey) * 5 // 4, 0, 255).astype(np.uint8)


def _landmarks(s: Subject, shot: Shot, head: Head) -> NDArray[np.float32]:
    tip = s.eye_height + 0.12 + s.nose_length
    u, v = mouth_corner(s, shot.expression)
    local = points((-s.eye_spacing, s.eye_height), (s.eye_spacing, s.eye_height), (0.0, tip + 0.03), (-u, v), (u, v))
    z = depth(local)
    z[2] = 0.78
    return ((head.place(local, z) - (OVERSAMPLING - 1) / 2) / OVERSAMPLING).astype(np.float32)


def _bbox(outline: NDArray[np.float64], head: Head) -> NDArray[np.float32]:
    face = outline[outline[:, 1] > -0.62]
    placed = (head.place(face, 0.12) - (OVERSAMPLING - 1) / 2) / OVERSAMPLING
    return np.concatenate([placed.min(axis=0), placed.max(axis=0)]).astype(np.float32)

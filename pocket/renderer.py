"""Draws a subject in a shot: cartoon-like faces of 64 x 64, painted at three times that size and averaged.

Geometry is a face on a shallow ellipsoid: a point has local coordinates (u, v) in units of half the face
height (v downward) and a depth z, is turned by yaw, pitch and roll, scaled and shifted. Everything after the
geometry is integer arithmetic, so one OpenCV version gives the same bytes everywhere.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pocket.backgrounds import crop_background
from pocket.factors import CLOTH_COLOURS, Shot, Subject

SIDE = 64  # pixels of a finished picture
OVERSAMPLING = 3
_FRACTION_BITS = 4  # polygon corners are given to OpenCV in sixteenths of a pixel
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Render:
    """One picture and what is known of it.

    ``image`` is (64, 64, 3) RGB uint8; ``mask`` (64, 64) uint8, 255 on the person; ``landmarks`` (5, 2) float32
    x, y in pixels: the viewer's left eye, right eye, nose tip, left and right corner of the mouth; ``bbox``
    (4,) float32 x0, y0, x1, y1 of the face from brow top to chin.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    bbox: NDArray[np.float32]


class _Head:
    """Maps local face coordinates to canvas pixels."""

    def __init__(self, shot: Shot) -> None:
        side = SIDE * OVERSAMPLING
        self.unit = shot.scale * side / 2
        self.centre = (side * (0.5 + shot.shift_x), side * (0.5 + shot.shift_y))
        self.sin_yaw, self.cos_yaw = _sin_cos(shot.yaw)
        self.sin_pitch, self.cos_pitch = _sin_cos(shot.pitch)
        self.sin_roll, self.cos_roll = _sin_cos(shot.roll)

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


def _sin_cos(degrees: float) -> tuple[float, float]:
    return math.sin(math.radians(degrees)), math.cos(math.radians(degrees))


def _depth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height of the face surface over the plane of the ears."""
    return 0.62 * np.sqrt(np.maximum(0.0, 1.0 - 0.8 * points[:, 0] ** 2 - 0.75 * points[:, 1] ** 2))


def _ellipse(u: float, v: float, a: float, b: float, start: float = 0.0, end: float = 360.0) -> NDArray[np.float64]:
    angle = np.radians(np.linspace(start, end, 25))
    return np.stack([u + a * np.cos(angle), v + b * np.sin(angle)], axis=1)


def _points(*pairs: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(pairs, np.float64)


def _shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (int(min(255.0, c * factor)) for c in colour)
    return r, g, b


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    r, g, bl = (int(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
    return r, g, bl


class _Canvas:
    def __init__(self, background: NDArray[np.uint8], head: _Head) -> None:
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
        self.fill(points, colour, _depth(points))

    @staticmethod
    def _polygon(target: NDArray[np.uint8], points: NDArray[np.float64], colour: Colour | int) -> None:
        corners = np.rint(points * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillPoly(target, [corners], colour, shift=_FRACTION_BITS)


def render(subject: Subject, shot: Shot) -> Render:
    """Draw ``subject`` as ``shot`` says."""
    head = _Head(shot)
    side = SIDE * OVERSAMPLING
    canvas = _Canvas(crop_background(shot.background, side, shot.background_shift), head)
    outline = _outline(subject)
    _back_hair(canvas, subject)
    _body(canvas, subject, shot)
    for sign in (-1.0, 1.0):
        ear = _ellipse(sign * subject.face_width, 0.06, subject.ear_size * 0.75, subject.ear_size * 1.2)
        canvas.fill_person(ear, _shade(subject.skin, 0.9), -0.05)
    canvas.fill_person(outline, subject.skin, 0.12)
    _skin_marks(canvas, subject)
    _beard(canvas, subject)
    _mouth(canvas, subject, shot)
    _nose(canvas, subject)
    _eyes(canvas, subject, shot)
    _front_hair(canvas, subject, outline)
    _glasses(canvas, subject, shot)
    _hat(canvas, subject, shot)

    image = _style(_light(_average(canvas.image), shot), shot.style)
    mask = np.where(_average(canvas.mask[..., None])[..., 0] >= 128, 255, 0).astype(np.uint8)
    return Render(image, mask, _landmarks(subject, shot, head), _bbox(outline, head))


def _outline(s: Subject) -> NDArray[np.float64]:
    """Head contour: an ellipse above, a jaw between round (0) and square (1) below."""
    angle = np.radians(np.linspace(0, 360, 49))
    power = np.where(np.sin(angle) > 0, 1.0 - 0.42 * s.jaw, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([s.face_width * np.sign(cos) * np.abs(cos) ** power, sin], axis=1)


def _body(canvas: _Canvas, s: Subject, shot: Shot) -> None:
    side = SIDE * OVERSAMPLING
    unit, (cx, _) = canvas.head.unit, canvas.head.centre
    chin = float(canvas.head.place(_points((0.0, 0.8)), 0.0)[0, 1])
    shoulder = chin + 0.42 * unit
    neck = 0.36 * unit
    cloth = CLOTH_COLOURS[shot.cloth_colour]
    torso = _points(
        (cx - 1.5 * unit, side), (cx - 1.25 * unit, shoulder + 0.25 * unit), (cx - neck, shoulder),
        (cx + neck, shoulder), (cx + 1.25 * unit, shoulder + 0.25 * unit), (cx + 1.5 * unit, side),
    )  # fmt: skip
    canvas.fill_fixed(torso, cloth)
    if shot.cloth_pattern == "striped":
        stripe = _mix(cloth, (255, 255, 255) if sum(cloth) < 480 else (40, 40, 60), 0.6)
        for k in (-3, -1, 1, 3):
            x = cx + k * 0.36 * unit
            top = shoulder + max(0.0, abs(k) * 0.36 * unit - neck) * 0.28
            canvas.fill_fixed(
                _points(
                    (x - 0.13 * unit, top), (x + 0.13 * unit, top), (x + 0.13 * unit, side), (x - 0.13 * unit, side)
                ),
                stripe,
                person=False,
            )
    throat = _points(
        (cx - neck, chin - 0.3 * unit), (cx + neck, chin - 0.3 * unit), (cx + neck, shoulder),
        (cx, shoulder + 0.22 * unit), (cx - neck, shoulder),
    )  # fmt: skip
    canvas.fill_fixed(throat, _shade(s.skin, 0.84))


def _back_hair(canvas: _Canvas, s: Subject) -> None:
    dark = _shade(s.hair_colour, 0.82)
    width = s.face_width + 0.10 + 0.14 * s.hair_volume
    if s.hair_style == "long":
        shape = np.concatenate(
            [_ellipse(0, -0.15, width, 1.0, 180, 360), _points((width * 1.08, 1.5), (-width * 1.08, 1.5))]
        )
        canvas.fill_person(shape, dark, -0.25)
    elif s.hair_style == "bob":
        shape = np.concatenate(
            [_ellipse(0, -0.15, width * 1.05, 1.0, 180, 360), _points((width * 1.12, 0.62), (-width * 1.12, 0.62))]
        )
        canvas.fill_person(shape, dark, -0.25)
    elif s.hair_style == "curly":
        for angle in range(160, 400, 24):
            sin, cos = _sin_cos(angle)
            canvas.fill_person(_ellipse(width * cos, -0.2 + 0.95 * sin, 0.28, 0.28), dark, -0.2)


def _front_hair(canvas: _Canvas, s: Subject, outline: NDArray[np.float64]) -> None:
    if s.hair_style == "bald":
        return
    colour, top = s.hair_colour, -1.0 - 0.10 - 0.16 * s.hair_volume
    w = s.face_width + 0.04
    crown = _ellipse(0, -0.32, w, -top - 0.32, 180, 360)
    hairline = {
        "buzzed": ((w * 0.96, -0.52), (0.45, -0.66), (-0.45, -0.66), (-w * 0.96, -0.52)),
        "short": ((w, -0.26), (w * 0.84, -0.46), (0.3, -0.58), (-0.3, -0.58), (-w * 0.84, -0.46), (-w, -0.26)),
        "parted": ((w, -0.1), (w * 0.8, -0.34), (-0.25, -0.86), (-w * 0.82, -0.46), (-w, -0.1)),
        "fringed": ((w, -0.05), (w * 0.86, -0.34), (0.0, -0.36), (-w * 0.86, -0.34), (-w, -0.05)),
        "bob": ((w, 0.45), (w * 0.86, -0.3), (0.0, -0.48), (-w * 0.86, -0.3), (-w, 0.45)),
        "long": ((w, 0.7), (w * 0.84, -0.2), (0.0, -0.84), (-w * 0.84, -0.2), (-w, 0.7)),
        "curly": ((w, -0.2), (w * 0.8, -0.46), (0.3, -0.52), (-0.3, -0.52), (-w * 0.8, -0.46), (-w, -0.2)),
        "spiky": ((w, -0.28), (w * 0.8, -0.5), (0.3, -0.62), (-0.3, -0.62), (-w * 0.8, -0.5), (-w, -0.28)),
    }[s.hair_style]  # fmt: skip
    if s.hair_style == "buzzed":
        colour = _mix(s.hair_colour, s.skin, 0.35)
        crown = _ellipse(0, -0.32, s.face_width + 0.02, 0.72, 190, 350)
    canvas.fill_person(np.concatenate([crown, _points(*hairline)]), colour, 0.18)
    if s.hair_style == "curly":
        for angle in range(190, 355, 22):
            sin, cos = _sin_cos(angle)
            canvas.fill_person(_ellipse(w * 0.86 * cos, -0.5 + 0.56 * sin, 0.2, 0.2), colour, 0.18)
    elif s.hair_style == "spiky":
        for k in range(-3, 4):
            x = k * w / 3.4
            tip = top - 0.22 - 0.1 * s.hair_volume + 0.07 * abs(k)
            canvas.fill_person(_points((x - 0.2, -0.75), (x + 0.08 * k, tip), (x + 0.2, -0.75)), colour, 0.18)


def _skin_marks(canvas: _Canvas, s: Subject) -> None:
    if s.blush > 0:
        for sign in (-1.0, 1.0):
            cheek = _ellipse(sign * 0.5 * s.face_width / 0.8, 0.26, 0.16, 0.11)
            canvas.feature(cheek, _mix(s.skin, (226, 86, 86), 0.18 + 0.3 * s.blush))
    if s.freckles:
        for sign in (-1.0, 1.0):
            for du, dv in ((0.0, 0.0), (0.13, 0.05), (0.06, 0.12), (-0.07, 0.10)):
                canvas.feature(_ellipse(sign * (0.38 + du), 0.14 + dv, 0.036, 0.036), _mix(s.skin, (120, 60, 30), 0.5))
    if s.mole is not None:
        canvas.feature(_ellipse(*s.mole, 0.065, 0.065), (58, 30, 24))


def _beard(canvas: _Canvas, s: Subject) -> None:
    if s.beard == "none":
        return
    colour = _shade(s.hair_colour, 0.78) if s.hair_style != "bald" else _shade(s.hair_colour, 0.9)
    m, w = s.mouth_height, s.face_width
    if s.beard in ("full", "stubble"):
        if s.beard == "stubble":
            colour = _mix(s.skin, colour, 0.38)
        lower = np.array([(u * 1.01, v * 1.02) for u, v in _outline(s) if v > 0.12])
        upper = _points((-w * 0.72, 0.34), (-0.3, m - 0.16), (0.0, m - 0.2), (0.3, m - 0.16), (w * 0.72, 0.34))
        canvas.fill_person(np.concatenate([lower, upper]), colour, 0.16)
    if s.beard in ("moustache", "goatee"):
        band = _points(
            (-0.3, m - 0.02), (-0.22, m - 0.17), (0.0, m - 0.2), (0.22, m - 0.17), (0.3, m - 0.02), (0.0, m - 0.09)
        )
        canvas.feature(band, colour)
    if s.beard == "goatee":
        canvas.feature(_points((-0.22, m + 0.09), (0.22, m + 0.09), (0.15, 1.04), (-0.15, 1.04)), colour)


def _mouth(canvas: _Canvas, s: Subject, shot: Shot) -> None:
    w, m, t = s.mouth_width, s.mouth_height, s.lip_thickness
    lips = _mix(_shade(s.skin, 0.72), (196, 44, 64), 0.25 + 0.6 * s.lip_redness)
    if shot.expression == "surprised":
        canvas.feature(_ellipse(0, m + 0.02, 0.15 + t, 0.17 + t), lips)
        canvas.feature(_ellipse(0, m + 0.02, 0.15, 0.17), (70, 20, 26))
        return
    bend = {"neutral": 0.0, "smiling": 0.16, "sad": -0.16}[shot.expression]
    across = np.linspace(-1, 1, 13)
    middle = m + bend * 0.5 - bend * across**2
    thick = t * np.sqrt(np.maximum(0.0, 1 - across**2)) + 0.015
    wide = w * (1.25 if shot.expression == "smiling" else 1.0)
    upper = np.stack([wide * across, middle - thick], axis=1)
    lower = np.stack([wide * across, middle + thick * (2.2 if shot.expression == "smiling" else 1.0)], axis=1)
    canvas.feature(np.concatenate([upper, lower[::-1]]), lips)
    if shot.expression == "smiling":
        teeth = np.stack([wide * 0.8 * across, middle + thick * 0.9], axis=1)
        canvas.feature(np.concatenate([upper * (0.8, 1.0) + (0.0, 0.03), teeth[::-1]]), (244, 240, 234))


def _nose(canvas: _Canvas, s: Subject) -> None:
    top, tip = s.eye_height + 0.1, s.eye_height + 0.12 + s.nose_length
    shape = _points((-0.035, top), (0.035, top), (s.nose_width, tip), (0.0, tip + 0.07), (-s.nose_width, tip))
    z = np.array([0.62, 0.62, 0.74, 0.8, 0.74])
    canvas.fill(shape, _shade(s.skin, 0.82), z)


def _eyes(canvas: _Canvas, s: Subject, shot: Shot) -> None:
    wide_open = 1.25 if shot.expression == "surprised" else 1.0
    brow = _shade(s.hair_colour, 0.7)
    for sign in (-1.0, 1.0):
        u, v, a = sign * s.eye_spacing, s.eye_height, s.eye_size
        b = a * s.eye_aspect * wide_open
        canvas.feature(_ellipse(u, v, a * 1.12, b * 1.18), (40, 28, 28))
        canvas.feature(_ellipse(u, v, a, b), (250, 250, 250))
        iris = min(a * 0.72, b)
        canvas.feature(_ellipse(u, v, iris, iris), s.eye_colour)
        canvas.feature(_ellipse(u, v, iris * 0.45, iris * 0.45), (14, 12, 14))
        lift = 0.07 if shot.expression == "surprised" else 0.0
        y = v - a * s.eye_aspect - s.brow_gap - lift
        sad = 0.07 if shot.expression == "sad" else 0.0
        inner, outer = y + s.brow_tilt - sad, y - s.brow_tilt + sad
        x0, x1, t = sign * (s.eye_spacing - a * 1.05), sign * (s.eye_spacing + a * 1.15), s.brow_thickness
        canvas.feature(_points((x0, inner), (x1, outer), (x1, outer - t * 0.7), (x0, inner - t)), brow)


def _glasses(canvas: _Canvas, s: Subject, shot: Shot) -> None:
    if shot.glasses == "none":
        return
    dark = shot.glasses == "sunglasses"
    for sign in (-1.0, 1.0):
        rim = _ellipse(sign * s.eye_spacing, s.eye_height, 0.29, 0.27)
        z = _depth(rim) + 0.06
        if dark:
            canvas.fill(rim, (24, 24, 30), z)
        else:
            points = np.rint(canvas.head.place(rim, z) * 16).astype(np.int32)
            cv2.polylines(canvas.image, [points], True, (30, 30, 36), 3, cv2.LINE_8, _FRACTION_BITS)
    x, y = s.eye_spacing - 0.26, s.eye_height
    bridge = _points((-x, y - 0.05), (x, y - 0.05), (x, y + 0.02), (-x, y + 0.02))
    canvas.fill(bridge, (30, 30, 36), 0.7)


def _hat(canvas: _Canvas, s: Subject, shot: Shot) -> None:
    if shot.hat == "none":
        return
    colour, w = CLOTH_COLOURS[shot.hat_colour], s.face_width + 0.14
    trim = _shade(colour, 0.7) if sum(colour) > 200 else (90, 90, 96)
    if shot.hat == "cap":
        canvas.fill_person(_ellipse(0, -0.55, w, 0.72, 180, 360), colour, 0.2)
        canvas.fill_person(_ellipse(0, -0.5, w * 0.95, 0.13), trim, 0.75)
    elif shot.hat == "beanie":
        canvas.fill_person(_ellipse(0, -0.5, w, 0.92, 180, 360), colour, 0.15)
        canvas.fill_person(_points((-w, -0.66), (w, -0.66), (w, -0.44), (-w, -0.44)), trim, 0.2)
        canvas.fill_person(_ellipse(0, -1.42, 0.17, 0.17), trim, 0.1)
    else:
        canvas.fill_person(
            _points((-w * 0.74, -0.6), (-w * 0.78, -1.75), (w * 0.78, -1.75), (w * 0.74, -0.6)), colour, 0.15
        )
        canvas.fill_person(
            _points((-w * 0.75, -0.86), (w * 0.75, -0.86), (w * 0.75, -0.66), (-w * 0.75, -0.66)), trim, 0.17
        )
        canvas.fill_person(_ellipse(0, -0.6, w * 1.35, 0.14), colour, 0.3)


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


def _mouth_corner(s: Subject, expression: str) -> tuple[float, float]:
    """Where the right corner of the drawn mouth is: an expression moves it."""
    if expression == "surprised":
        return 0.15 + s.lip_thickness, s.mouth_height + 0.02
    bend = {"neutral": 0.0, "smiling": 0.16, "sad": -0.16}[expression]
    return s.mouth_width * (1.25 if expression == "smiling" else 1.0), s.mouth_height - 0.5 * bend


def _landmarks(s: Subject, shot: Shot, head: _Head) -> NDArray[np.float32]:
    tip = s.eye_height + 0.12 + s.nose_length
    u, v = _mouth_corner(s, shot.expression)
    local = _points((-s.eye_spacing, s.eye_height), (s.eye_spacing, s.eye_height), (0.0, tip + 0.03), (-u, v), (u, v))
    depth = _depth(local)
    depth[2] = 0.78
    return ((head.place(local, depth) - (OVERSAMPLING - 1) / 2) / OVERSAMPLING).astype(np.float32)


def _bbox(outline: NDArray[np.float64], head: _Head) -> NDArray[np.float32]:
    face = outline[outline[:, 1] > -0.62]
    placed = (head.place(face, 0.12) - (OVERSAMPLING - 1) / 2) / OVERSAMPLING
    return np.concatenate([placed.min(axis=0), placed.max(axis=0)]).astype(np.float32)

"""The parts of a face: contour, ears, marks, beard, mouth, nose and eyes, on the surface of the head."""

import numpy as np
from numpy.typing import NDArray

from pocket.render.canvas import Canvas, ellipse, mix, points, shade
from pocket.render.factors import Shot, Subject


def outline(s: Subject) -> NDArray[np.float64]:
    """Head contour: an ellipse above, a jaw between round (0) and square (1) below."""
    angle = np.radians(np.linspace(0, 360, 49))
    power = np.where(np.sin(angle) > 0, 1.0 - 0.42 * s.jaw, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([s.face_width * np.sign(cos) * np.abs(cos) ** power, sin], axis=1)


def ears(canvas: Canvas, s: Subject) -> None:
    for sign in (-1.0, 1.0):
        ear = ellipse(sign * s.face_width, 0.06, s.ear_size * 0.75, s.ear_size * 1.2)
        canvas.fill_person(ear, shade(s.skin, 0.9), -0.05)


def skin_marks(canvas: Canvas, s: Subject) -> None:
    if s.blush > 0:
        for sign in (-1.0, 1.0):
            cheek = ellipse(sign * 0.5 * s.face_width / 0.8, 0.26, 0.16, 0.11)
            canvas.feature(cheek, mix(s.skin, (226, 86, 86), 0.18 + 0.3 * s.blush))
    if s.freckles:
        for sign in (-1.0, 1.0):
            for du, dv in ((0.0, 0.0), (0.13, 0.05), (0.06, 0.12), (-0.07, 0.10)):
                canvas.feature(ellipse(sign * (0.38 + du), 0.14 + dv, 0.036, 0.036), mix(s.skin, (120, 60, 30), 0.5))
    if s.mole is not None:
        canvas.feature(ellipse(*s.mole, 0.065, 0.065), (58, 30, 24))


def beard(canvas: Canvas, s: Subject) -> None:
    if s.beard == "none":
        return
    colour = shade(s.hair_colour, 0.78) if s.hair_style != "bald" else shade(s.hair_colour, 0.9)
    m, w = s.mouth_height, s.face_width
    if s.beard in ("full", "stubble"):
        if s.beard == "stubble":
            colour = mix(s.skin, colour, 0.38)
        lower = np.array([(u * 1.01, v * 1.02) for u, v in outline(s) if v > 0.12])
        upper = points((-w * 0.72, 0.34), (-0.3, m - 0.16), (0.0, m - 0.2), (0.3, m - 0.16), (w * 0.72, 0.34))
        canvas.fill_person(np.concatenate([lower, upper]), colour, 0.16)
    if s.beard in ("moustache", "goatee"):
        band = points(
            (-0.3, m - 0.02), (-0.22, m - 0.17), (0.0, m - 0.2), (0.22, m - 0.17), (0.3, m - 0.02), (0.0, m - 0.09)
        )
        canvas.feature(band, colour)
    if s.beard == "goatee":
        canvas.feature(points((-0.22, m + 0.09), (0.22, m + 0.09), (0.15, 1.04), (-0.15, 1.04)), colour)


def mouth(canvas: Canvas, s: Subject, shot: Shot) -> None:
    w, m, t = s.mouth_width, s.mouth_height, s.lip_thickness
    lips = mix(shade(s.skin, 0.72), (196, 44, 64), 0.25 + 0.6 * s.lip_redness)
    if shot.expression == "surprised":
        canvas.feature(ellipse(0, m + 0.02, 0.15 + t, 0.17 + t), lips)
        canvas.feature(ellipse(0, m + 0.02, 0.15, 0.17), (70, 20, 26))
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


def mouth_corner(s: Subject, expression: str) -> tuple[float, float]:
    """Where the right corner of the drawn mouth is: an expression moves it."""
    if expression == "surprised":
        return 0.15 + s.lip_thickness, s.mouth_height + 0.02
    bend = {"neutral": 0.0, "smiling": 0.16, "sad": -0.16}[expression]
    return s.mouth_width * (1.25 if expression == "smiling" else 1.0), s.mouth_height - 0.5 * bend


def nose(canvas: Canvas, s: Subject) -> None:
    top, tip = s.eye_height + 0.1, s.eye_height + 0.12 + s.nose_length
    shape = points((-0.035, top), (0.035, top), (s.nose_width, tip), (0.0, tip + 0.07), (-s.nose_width, tip))
    z = np.array([0.62, 0.62, 0.74, 0.8, 0.74])
    canvas.fill(shape, shade(s.skin, 0.82), z)


def eyes(canvas: Canvas, s: Subject, shot: Shot) -> None:
    wide_open = 1.25 if shot.expression == "surprised" else 1.0
    brow = shade(s.hair_colour, 0.7)
    for sign in (-1.0, 1.0):
        u, v, a = sign * s.eye_spacing, s.eye_height, s.eye_size
        b = a * s.eye_aspect * wide_open
        canvas.feature(ellipse(u, v, a * 1.12, b * 1.18), (40, 28, 28))
        canvas.feature(ellipse(u, v, a, b), (250, 250, 250))
        iris = min(a * 0.72, b)
        canvas.feature(ellipse(u, v, iris, iris), s.eye_colour)
        canvas.feature(ellipse(u, v, iris * 0.45, iris * 0.45), (14, 12, 14))
        lift = 0.07 if shot.expression == "surprised" else 0.0
        y = v - a * s.eye_aspect - s.brow_gap - lift
        sad = 0.07 if shot.expression == "sad" else 0.0
        inner, outer = y + s.brow_tilt - sad, y - s.brow_tilt + sad
        x0, x1, t = sign * (s.eye_spacing - a * 1.05), sign * (s.eye_spacing + a * 1.15), s.brow_thickness
        canvas.feature(points((x0, inner), (x1, outer), (x1, outer - t * 0.7), (x0, inner - t)), brow)

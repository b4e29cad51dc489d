"""Hair behind and before the face."""

import numpy as np

from pocket.render.canvas import Canvas, ellipse, mix, points, shade, sin_cos
from pocket.render.factors import Subject


def back_hair(canvas: Canvas, s: Subject) -> None:
    dark = shade(s.hair_colour, 0.82)
    width = s.face_width + 0.10 + 0.14 * s.hair_volume
    if s.hair_style == "long":
        shape = np.concatenate(
            [ellipse(0, -0.15, width, 1.0, 180, 360), points((width * 1.08, 1.5), (-width * 1.08, 1.5))]
        )
        canvas.fill_person(shape, dark, -0.25)
    elif s.hair_style == "bob":
        shape = np.concatenate(
            [ellipse(0, -0.15, width * 1.05, 1.0, 180, 360), points((width * 1.12, 0.62), (-width * 1.12, 0.62))]
        )
        canvas.fill_person(shape, dark, -0.25)
    elif s.hair_style == "curly":
        for angle in range(160, 400, 24):
            sin, cos = sin_cos(angle)
            canvas.fill_person(ellipse(width * cos, -0.2 + 0.95 * sin, 0.28, 0.28), dark, -0.2)


def front_hair(canvas: Canvas, s: Subject) -> None:
    if s.hair_style == "bald":
        return
    colour, top = s.hair_colour, -1.0 - 0.10 - 0.16 * s.hair_volume
    w = s.face_width + 0.04
    crown = ellipse(0, -0.32, w, -top - 0.32, 180, 360)
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
        colour = mix(s.hair_colour, s.skin, 0.35)
        crown = ellipse(0, -0.32, s.face_width + 0.02, 0.72, 190, 350)
    canvas.fill_person(np.concatenate([crown, points(*hairline)]), colour, 0.18)
    if s.hair_style == "curly":
        for angle in range(190, 355, 22):
            sin, cos = sin_cos(angle)
            canvas.fill_person(ellipse(w * 0.86 * cos, -0.5 + 0.56 * sin, 0.2, 0.2), colour, 0.18)
    elif s.hair_style == "spiky":
        for k in range(-3, 4):
            x = k * w / 3.4
            tip = top - 0.22 - 0.1 * s.hair_volume + 0.07 * abs(k)
            canvas.fill_person(points((x - 0.2, -0.75), (x + 0.08 * k, tip), (x + 0.2, -0.75)), colour, 0.18)

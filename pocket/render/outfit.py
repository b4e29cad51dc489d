"""Body and clothes, glasses and hats: what changes from shot to shot."""

import cv2
import numpy as np

from pocket.render.canvas import FRACTION_BITS, OVERSAMPLING, SIDE, Canvas, depth, ellipse, mix, points, shade
from pocket.render.factors import CLOTH_COLOURS, Shot, Subject


def body(canvas: Canvas, s: Subject, shot: Shot) -> None:
    side = SIDE * OVERSAMPLING
    unit, (cx, _) = canvas.head.unit, canvas.head.centre
    chin = float(canvas.head.place(points((0.0, 0.8)), 0.0)[0, 1])
    shoulder = chin + 0.42 * unit
    neck = 0.36 * unit
    cloth = CLOTH_COLOURS[shot.cloth_colour]
    torso = points(
        (cx - 1.5 * unit, side), (cx - 1.25 * unit, shoulder + 0.25 * unit), (cx - neck, shoulder),
        (cx + neck, shoulder), (cx + 1.25 * unit, shoulder + 0.25 * unit), (cx + 1.5 * unit, side),
    )  # fmt: skip
    canvas.fill_fixed(torso, cloth)
    if shot.cloth_pattern == "striped":
        stripe = mix(cloth, (255, 255, 255) if sum(cloth) < 480 else (40, 40, 60), 0.6)
        for k in (-3, -1, 1, 3):
            x = cx + k * 0.36 * unit
            top = shoulder + max(0.0, abs(k) * 0.36 * unit - neck) * 0.28
            canvas.fill_fixed(
                points(
                    (x - 0.13 * unit, top), (x + 0.13 * unit, top), (x + 0.13 * unit, side), (x - 0.13 * unit, side)
                ),
                stripe,
                person=False,
            )
    throat = points(
        (cx - neck, chin - 0.3 * unit), (cx + neck, chin - 0.3 * unit), (cx + neck, shoulder),
        (cx, shoulder + 0.22 * unit), (cx - neck, shoulder),
    )  # fmt: skip
    canvas.fill_fixed(throat, shade(s.skin, 0.84))


def glasses(canvas: Canvas, s: Subject, shot: Shot) -> None:
    if shot.glasses == "none":
        return
    dark = shot.glasses == "sunglasses"
    for sign in (-1.0, 1.0):
        rim = ellipse(sign * s.eye_spacing, s.eye_height, 0.29, 0.27)
        z = depth(rim) + 0.06
        if dark:
            canvas.fill(rim, (24, 24, 30), z)
        else:
            placed = np.rint(canvas.head.place(rim, z) * 16).astype(np.int32)
            cv2.polylines(canvas.image, [placed], True, (30, 30, 36), 3, cv2.LINE_8, FRACTION_BITS)
    x, y = s.eye_spacing - 0.26, s.eye_height
    bridge = points((-x, y - 0.05), (x, y - 0.05), (x, y + 0.02), (-x, y + 0.02))
    canvas.fill(bridge, (30, 30, 36), 0.7)


def hat(canvas: Canvas, s: Subject, shot: Shot) -> None:
    if shot.hat == "none":
        return
    colour, w = CLOTH_COLOURS[shot.hat_colour], s.face_width + 0.14
    trim = shade(colour, 0.7) if sum(colour) > 200 else (90, 90, 96)
    if shot.hat == "cap":
        canvas.fill_person(ellipse(0, -0.55, w, 0.72, 180, 360), colour, 0.2)
        canvas.fill_person(ellipse(0, -0.5, w * 0.95, 0.13), trim, 0.75)
    elif shot.hat == "beanie":
        canvas.fill_person(ellipse(0, -0.5, w, 0.92, 180, 360), colour, 0.15)
        canvas.fill_person(points((-w, -0.66), (w, -0.66), (w, -0.44), (-w, -0.44)), trim, 0.2)
        canvas.fill_person(ellipse(0, -1.42, 0.17, 0.17), trim, 0.1)
    else:
        canvas.fill_person(
            points((-w * 0.74, -0.6), (-w * 0.78, -1.75), (w * 0.78, -1.75), (w * 0.74, -0.6)), colour, 0.15
        )
        canvas.fill_person(
            points((-w * 0.75, -0.86), (w * 0.75, -0.86), (w * 0.75, -0.66), (-w * 0.75, -0.66)), trim, 0.17
        )
        canvas.fill_person(ellipse(0, -0.6, w * 1.35, 0.14), colour, 0.3)

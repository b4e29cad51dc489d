"""What can vary in the pocket world: who somebody is, and how an image of them was taken.

A :class:`Subject` holds everything that makes one person recognisable and nothing else. A :class:`Shot` holds every
nuisance of one image. Both are sampled with keyed random numbers, so a subject or a shot is a function of its name and
never of the process that asked for it.
"""

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

HAIR_STYLES = ("bald", "buzzed", "short", "parted", "fringed", "bob", "long", "curly", "spiky")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
EXPRESSIONS = ("neutral", "smiling", "sad", "surprised")
HATS = ("none", "cap", "beanie", "top hat")
GLASSES = ("none", "round", "sunglasses")
PATTERNS = ("plain", "striped")
STYLES = ("photo", "pencil sketch", "oil painting")
BACKGROUNDS = (
    "beach",
    "forest",
    "city",
    "night sky",
    "sunset",
    "mountains",
    "brick wall",
    "snow",
    "desert",
    "kitchen",
    "garden",
    "studio",
)

# Colours are RGB in 0..255; the words are the ones captions use.
CLOTH_COLOURS = {
    "red": (200, 40, 40),
    "orange": (235, 130, 30),
    "yellow": (235, 210, 50),
    "green": (50, 150, 70),
    "blue": (45, 85, 200),
    "purple": (130, 60, 170),
    "white": (238, 238, 238),
    "black": (35, 35, 40),
}
HAIR_COLOURS = {
    "black": (30, 26, 28),
    "brown": (100, 62, 36),
    "blond": (226, 190, 104),
    "red": (186, 72, 28),
    "grey": (158, 158, 164),
    "blue": (52, 92, 190),
    "pink": (226, 112, 160),
    "green": (62, 140, 84),
}
SKIN_TONES = {
    "pale": (250, 222, 204),
    "tan": (222, 172, 128),
    "olive": (186, 148, 98),
    "brown": (146, 94, 62),
    "dark": (92, 58, 42),
}
EYE_COLOURS = {
    "brown": (98, 56, 26),
    "blue": (62, 122, 206),
    "green": (58, 146, 74),
    "grey": (132, 140, 150),
}

# The eight poses of pocket10k: yaw, pitch, roll in degrees (positive: to the viewer's right, up, clockwise).
POSES = (
    (0.0, 0.0, 0.0),
    (-32.0, 0.0, 0.0),
    (32.0, 0.0, 0.0),
    (0.0, 20.0, 0.0),
    (0.0, -20.0, 0.0),
    (0.0, 0.0, 20.0),
    (-24.0, 12.0, -16.0),
    (24.0, -12.0, 16.0),
)


@dataclass(frozen=True)
class Subject:
    """Appearance of one person. Lengths are in units of half the face height; colours are RGB in 0..255."""

    skin: tuple[int, int, int]
    skin_word: str
    face_width: float
    jaw: float
    ear_size: float
    hair_style: str
    hair_colour: tuple[int, int, int]
    hair_word: str
    hair_volume: float
    eye_colour: tuple[int, int, int]
    eye_word: str
    eye_size: float
    eye_aspect: float
    eye_spacing: float
    eye_height: float
    brow_thickness: float
    brow_tilt: float
    brow_gap: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    lip_thickness: float
    lip_redness: float
    beard: str
    mole: tuple[float, float] | None
    freckles: bool
    blush: float


@dataclass(frozen=True)
class Shot:
    """Nuisance of one image: pose in degrees, scale as face height over image height, shifts in image widths."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    shift_x: float
    shift_y: float
    expression: str
    background: str
    background_shift: float
    light: float
    light_side: float
    warmth: float
    hat: str
    hat_colour: str
    glasses: str
    cloth_colour: str
    cloth_pattern: str
    style: str


class Draws:
    """Keyed uniform numbers: the same key gives the same sequence on every machine.

    Only ``Philox.random_raw`` is used, whose stream NumPy guarantees, and the mapping to floats is ours.
    """

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def choice(self, options: tuple[T, ...], weights: tuple[float, ...] | None = None) -> T:
        """One of the options, by weight."""
        weights = weights or (1.0,) * len(options)
        at = self.uniform(0.0, sum(weights))
        for option, weight in zip(options, weights, strict=True):
            at -= weight
            if at < 0:
                return option
        return options[-1]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def jitter(self, colour: tuple[int, int, int], spread: float) -> tuple[int, int, int]:
        """The colour moved by up to ``spread`` per channel, half of it common to the three."""
        common = self.uniform(-spread, spread) * 0.5
        r, g, b = (int(min(255.0, max(0.0, c + common + self.uniform(-spread, spread) * 0.5))) for c in colour)
        return r, g, b


def draw_subject(key: str) -> Subject:
    """The person called ``key``."""
    d = Draws("subject", key)
    skin_word = d.choice(tuple(SKIN_TONES))
    hair_word = d.choice(tuple(HAIR_COLOURS))
    eye_word = d.choice(tuple(EYE_COLOURS))
    return Subject(
        skin=d.jitter(SKIN_TONES[skin_word], 24),
        skin_word=skin_word,
        face_width=d.uniform(0.66, 0.92),
        jaw=d.uniform(0.0, 1.0),
        ear_size=d.uniform(0.10, 0.24),
        hair_style=d.choice(HAIR_STYLES),
        hair_colour=d.jitter(HAIR_COLOURS[hair_word], 30),
        hair_word=hair_word,
        hair_volume=d.uniform(0.0, 1.0),
        eye_colour=d.jitter(EYE_COLOURS[eye_word], 24),
        eye_word=eye_word,
        eye_size=d.uniform(0.13, 0.22),
        eye_aspect=d.uniform(0.55, 1.0),
        eye_spacing=d.uniform(0.27, 0.43),
        eye_height=d.uniform(-0.16, 0.02),
        brow_thickness=d.uniform(0.03, 0.11),
        brow_tilt=d.uniform(-0.09, 0.09),
        brow_gap=d.uniform(0.04, 0.12),
        nose_length=d.uniform(0.16, 0.36),
        nose_width=d.uniform(0.07, 0.18),
        mouth_width=d.uniform(0.18, 0.36),
        mouth_height=d.uniform(0.46, 0.60),
        lip_thickness=d.uniform(0.035, 0.09),
        lip_redness=d.uniform(0.0, 1.0),
        beard=d.choice(BEARDS, (4.0, 1.0, 1.5, 1.5, 2.0)),
        mole=(d.uniform(0.25, 0.55) * d.choice((-1.0, 1.0)), d.uniform(0.12, 0.40)) if d.chance(0.3) else None,
        freckles=d.chance(0.2),
        blush=d.uniform(0.0, 1.0) if d.chance(0.5) else 0.0,
    )


def draw_shot(
    key: str,
    pose: tuple[float, float, float] | None = None,
    background: str | None = None,
    style: str | None = None,
    accessories: bool = True,
) -> Shot:
    """The nuisance called ``key``. What is given is kept, a pose within 3 degrees; everything else is sampled.

    Without accessories there is neither hat nor glasses.
    """
    d = Draws("shot", key)
    near = tuple(d.uniform(-3.0, 3.0) for _ in range(3))
    free = (d.uniform(-36.0, 36.0), d.uniform(-22.0, 22.0), d.uniform(-20.0, 20.0))
    yaw, pitch, roll = free if pose is None else tuple(p + n for p, n in zip(pose, near, strict=True))
    return Shot(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        scale=d.uniform(0.56, 0.68),
        shift_x=d.uniform(-0.06, 0.06),
        shift_y=d.uniform(-0.04, 0.04),
        expression=d.choice(EXPRESSIONS, (2.0, 1.0, 1.0, 1.0)),
        background=background or d.choice(BACKGROUNDS),
        background_shift=d.uniform(),
        light=d.uniform(0.86, 1.10),
        light_side=d.uniform(-0.16, 0.16),
        warmth=d.uniform(-0.06, 0.06),
        hat=(d.choice(HATS, (4.5, 1.0, 1.0, 1.0)) if accessories else "none"),
        hat_colour=d.choice(tuple(CLOTH_COLOURS)),
        glasses=(d.choice(GLASSES, (3.0, 1.0, 1.0)) if accessories else "none"),
        cloth_colour=d.choice(tuple(CLOTH_COLOURS)),
        cloth_pattern=d.choice(PATTERNS),
        style=style or d.choice(STYLES, (3.0, 1.0, 1.0)),
    )

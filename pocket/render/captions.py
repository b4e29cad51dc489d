"""Captions for images of the pocket world, built from the factors that the images are rendered from.

Every caption reads ``a photo of a person`` plus clauses. The caption's own key decides which clauses it has, so that a
model sees short and long prompts. Only a part of the captions has words of the appearance.
"""

from pocket.render.factors import Draws, Shot, Subject

CLASS_NOUN = "person"
_PLACES = {
    "beach": "on a beach",
    "forest": "in a forest",
    "city": "in a city",
    "night sky": "under the night sky",
    "sunset": "at sunset",
    "mountains": "in the mountains",
    "brick wall": "in front of a brick wall",
    "snow": "in the snow",
    "desert": "in a desert",
    "kitchen": "in a kitchen",
    "garden": "in a garden",
    "studio": "in a studio",
}
_BEARDS = {"stubble": "stubble", "moustache": "a moustache", "goatee": "a goatee", "full": "a full beard"}
_STYLES = {"photo": "a photo", "pencil sketch": "a pencil sketch", "oil painting": "an oil painting"}


def place_words(background: str) -> str:
    """The phrase for a background, such as ``on a beach``."""
    return _PLACES[background]


def style_words(style: str) -> str:
    """The phrase for an image style, such as ``a pencil sketch``."""
    return _STYLES[style]


def article(noun: str) -> str:
    """The noun with ``a`` or ``an``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def appearance_words(subject: Subject) -> str:
    """What a caption can say about who it is: hair, skin, eyes, beard, marks."""
    hair = "a bald head" if subject.hair_style == "bald" else f"{subject.hair_style} {subject.hair_word} hair"
    words = [hair, f"{subject.skin_word} skin", f"{subject.eye_word} eyes"]
    if subject.beard != "none":
        words.append(_BEARDS[subject.beard])
    if subject.freckles:
        words.append("freckles")
    if subject.mole is not None:
        words.append("a mole")
    return ", ".join(words[:-1]) + " and " + words[-1]


def _told(low: str, high: str, value: float, bounds: tuple[float, float]) -> str:
    """The word for a value in the lowest or the highest third of its range; empty for the middle third."""
    share = (value - bounds[0]) / (bounds[1] - bounds[0])
    return low if share < 1 / 3 else high if share > 2 / 3 else ""


def face_words(subject: Subject) -> str:
    """What tells this face from others, part by part: ``large close eyes, thick brows, long nose``."""
    s = subject
    parts = [
        ("face", [_told("narrow", "wide", s.face_width, (0.66, 0.92))]),
        ("jaw", [_told("round", "square", s.jaw, (0.0, 1.0))]),
        ("ears", [_told("small", "large", s.ear_size, (0.10, 0.24))]),
        (
            "eyes",
            [
                _told("small", "large", s.eye_size, (0.13, 0.22)),
                _told("narrow", "round", s.eye_aspect, (0.55, 1.0)),
                _told("close", "distant", s.eye_spacing, (0.27, 0.43)),
                _told("high", "low", s.eye_height, (-0.16, 0.02)),
            ],
        ),
        (
            "brows",
            [
                _told("thin", "thick", s.brow_thickness, (0.03, 0.11)),
                _told("falling", "rising", s.brow_tilt, (-0.09, 0.09)),
                _told("near", "raised", s.brow_gap, (0.04, 0.12)),
            ],
        ),
        (
            "nose",
            [
                _told("short", "long", s.nose_length, (0.16, 0.36)),
                _told("slim", "broad", s.nose_width, (0.07, 0.18)),
            ],
        ),
        (
            "mouth",
            [
                _told("narrow", "wide", s.mouth_width, (0.18, 0.36)),
                _told("high", "low", s.mouth_height, (0.46, 0.60)),
            ],
        ),
        (
            "lips",
            [
                _told("thin", "full", s.lip_thickness, (0.035, 0.09)),
                _told("pale", "red", s.lip_redness, (0.0, 1.0)),
            ],
        ),
    ]
    said = [" ".join([*filter(None, words), noun]) for noun, words in parts if any(words)]
    return ", ".join(said)


def description(subject: Subject, face: bool = True) -> str:
    """What follows the class noun in a caption that says who it is; without ``face`` hair, skin, eyes, beard and marks
    alone."""
    words = [appearance_words(subject), face_words(subject) if face else ""]
    return f"with {', '.join(filter(None, words))}"


def pose_words(shot: Shot) -> str:
    """What a caption can say about the head pose; empty for a frontal one."""
    words = []
    if abs(shot.yaw) > 15:
        words.append("looking " + ("right" if shot.yaw > 0 else "left"))
    if abs(shot.pitch) > 9:
        words.append("looking " + ("up" if shot.pitch > 0 else "down"))
    if abs(shot.roll) > 9:
        words.append("head tilted " + ("right" if shot.roll > 0 else "left"))
    return ", ".join(words)


def clothes_words(shot: Shot) -> str:
    """The phrase for the clothes, such as ``in a red striped shirt``."""
    shirt = f"{shot.cloth_colour} {'striped ' if shot.cloth_pattern == 'striped' else ''}shirt"
    return f"in {article(shirt)}"


def accessory_words(shot: Shot) -> str:
    """Hat and glasses as one clause; empty without either."""
    items = []
    if shot.hat != "none":
        items.append(article(f"{shot.hat_colour} {shot.hat}"))
    if shot.glasses != "none":
        items.append("round glasses" if shot.glasses == "round" else "sunglasses")
    return "wearing " + " and ".join(items) if items else ""


def caption(
    subject: Subject,
    shot: Shot,
    key: str,
    appearance: float = 0.5,
    pose: float = 0.3,
    detail: float = 0.85,
    face: bool = False,
) -> str:
    """The caption called ``key``.

    ``appearance``, ``pose`` and ``detail`` (for all other clauses) are the probabilities that a clause is there. With
    ``face``, the clause of the appearance goes on with :func:`face_words`.
    """
    d = Draws("caption", key)
    who = f"{style_words(shot.style)} of a {CLASS_NOUN}"
    if d.chance(appearance):
        who += f" {description(subject, face)}"
    clauses = [
        shot.expression if d.chance(detail) and shot.expression != "neutral" else "",
        accessory_words(shot) if d.chance(max(detail, 0.9)) else "",
        clothes_words(shot) if d.chance(detail) else "",
        place_words(shot.background) if d.chance(detail) else "",
        pose_words(shot) if d.chance(pose) else "",
    ]
    return ", ".join([who, *filter(None, clauses)])

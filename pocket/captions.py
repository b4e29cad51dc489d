"""Words for pictures of the pocket world, built from the factors they were drawn from.

Every caption reads ``a photo of a person`` plus clauses. Which clauses are spoken is drawn from the caption's
own key, so that a model sees short and long prompts; appearance words are spoken in a part of the samples only.
"""

from pocket.factors import Draws, Shot, Subject

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
    """The phrase for a picture style, such as ``a pencil sketch``."""
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


def accessory_words(shot: Shot) -> str:
    """Hat and glasses as one clause; empty without either."""
    items = []
    if shot.hat != "none":
        items.append(article(f"{shot.hat_colour} {shot.hat}"))
    if shot.glasses != "none":
        items.append("round glasses" if shot.glasses == "round" else "sunglasses")
    return "wearing " + " and ".join(items) if items else ""


def caption(
    subject: Subject, shot: Shot, key: str, appearance: float = 0.5, pose: float = 0.3, detail: float = 0.85
) -> str:
    """The caption called ``key``; ``appearance``, ``pose`` and ``detail`` (the rest) are chances of being spoken."""
    d = Draws("caption", key)
    who = f"{style_words(shot.style)} of a {CLASS_NOUN}"
    if d.chance(appearance):
        who += f" with {appearance_words(subject)}"
    shirt = f"{shot.cloth_colour} {'striped ' if shot.cloth_pattern == 'striped' else ''}shirt"
    clauses = [
        shot.expression if d.chance(detail) and shot.expression != "neutral" else "",
        accessory_words(shot) if d.chance(max(detail, 0.9)) else "",
        f"in {article(shirt)}" if d.chance(detail) else "",
        place_words(shot.background) if d.chance(detail) else "",
        pose_words(shot) if d.chance(pose) else "",
    ]
    return ", ".join([who, *filter(None, clauses)])

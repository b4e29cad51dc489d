"""``entry.json`` beside images that another program made: what they cost and how they came about."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from contracts.errors import LikenessError
from leaderboard.results.costs import COSTS, check_costs
from leaderboard.results.lines import read_json

NAME = "entry.json"
TEXTS = ("protocol", "method", "program", "base_model", "source", "licence", "note")
"""Keys with a text. ``protocol`` is the hash of the protocol whose requests the images answer."""


def read_about(folder: Path) -> Mapping | None:
    """What the folder says of its images; ``None`` where it says nothing.

    Raises:
        LikenessError: the file is damaged, has a key that nobody reads, or a value of the wrong kind.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    about = read_json(path, "correct or remove it")
    if not isinstance(about, dict):
        raise LikenessError(f"{path} holds no object: write {{}} or remove it")
    known = [*TEXTS, "settings", *COSTS]
    for name, value in about.items():
        if name not in known:
            meant = "".join(f"did you mean {other}?" for other in get_close_matches(name, known, n=1))
            raise LikenessError(f"{path}: nobody reads the key {name!r}: {meant or 'there are ' + ', '.join(known)}")
        if name in TEXTS and not isinstance(value, str):
            raise LikenessError(f"{path}: {name} is {value!r}, it must be a text")
        if name == "settings" and not isinstance(value, dict):
            raise LikenessError(f"{path}: settings is {value!r}, it must be an object")
    check_costs(about, path)
    return about

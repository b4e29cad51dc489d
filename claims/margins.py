"""The margins of ``margins.yaml``: the smallest effect of each kind that matters."""

from functools import cache
from pathlib import Path
from typing import Literal, get_args

from contracts.errors import LikenessError
from contracts.strict_yaml import read_yaml

Measure = Literal["identity", "prompt_kept", "rate", "correlation", "clip_i", "dino"]
FILE = Path(__file__).with_name("margins.yaml")


@cache
def margins(file: Path = FILE) -> dict[str, float]:
    """Margin by measure.

    Raises:
        LikenessError: a measure is missing or unknown, or a margin is no number above 0.
    """
    found = read_yaml(file)
    if not isinstance(found, dict) or set(found) != set(get_args(Measure)):
        raise LikenessError(f"{file} must have exactly the keys {', '.join(get_args(Measure))}")
    for name, value in found.items():
        if type(value) not in (int, float) or not 0 < value < 1:
            raise LikenessError(f"{file}: {name} is {value!r}, it must be a number between 0 and 1")
    return found

"""What a search may try: ranges and choices of settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from contracts.errors import LikenessError
from contracts.search import setting
from contracts.strict_yaml import read_yaml

DIGITS = 3
"""Significant digits of a number that is tried, so that it can be read and typed."""


def read_space(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The space in a YAML file: by key of ``train.py`` a list of choices, or ``{low: ..., high: ..., log: true}``.

    Raises:
        LikenessError: the file cannot be read, holds no space, or a key that the configuration does not have.
    """
    try:
        space = read_yaml(file)
    except OSError as error:
        raise LikenessError(f"--space: {str(file)!r} cannot be read: {error.strerror}") from None
    if not isinstance(space, dict) or not space:
        raise LikenessError(f"--space: {str(file)!r} holds no keys of train.py with what to try")
    for key, part in space.items():
        if setting(config, str(key)) is None:
            raise LikenessError(f"--space: {str(file)!r} has {key}, which is no setting of this configuration")
        distribution(key, part)
    return space


def distribution(key: str, part: Any) -> BaseDistribution:
    """What optuna draws one setting from: whole numbers where both ends are.

    Raises:
        LikenessError: the part is neither a list of choices nor a range.
    """
    if isinstance(part, list) and part:
        return CategoricalDistribution(part)
    if not isinstance(part, dict) or not {"low", "high"} <= part.keys() <= {"low", "high", "log"}:
        raise LikenessError(f"--space: {key} is {part!r}: give a list, or {{low: ..., high: ..., log: true}}")
    low, high, log = part["low"], part["high"], part.get("log", False)
    kind = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
    try:
        return kind(low, high, log=log)
    except (TypeError, ValueError) as error:
        raise LikenessError(f"--space: {key}: {' '.join(str(error).split())}") from None


def tidy(value: Any) -> Any:
    """A drawn value with as many digits as anybody would type."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value

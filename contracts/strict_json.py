"""JSON as its standard has it. Python's own reader also takes NaN and infinities, which no score and no cost may be."""

import json
import math
from typing import Any


class NoNumber(ValueError):
    """NaN, an infinity, or a number too large to be one; the message is how it was written."""


def parse(text: str) -> Any:
    """What a JSON text holds; raises :class:`NoNumber`, or another ``ValueError`` where the text is no JSON, also where
    it is nested so deep that nobody can have meant it."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # such as 1e999
        raise NoNumber(text)
    return value


def _refuse(name: str) -> None:
    raise NoNumber(name)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)

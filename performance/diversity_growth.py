"""How the time of diversity grows with the samples of a prompt: the exponent k of n^k from 16 to 128 samples."""

from performance.diversity import growth
from performance.timing import Result

GOAL = 1.2


def measure() -> Result:
    """The exponent; the loop over pairs would have 2."""
    exponent = growth()
    return Result("diversity, growth from 16 to 128", exponent, 2.0, exponent, GOAL, "lower", "exponent", 1.0)

"""Checks of claims: two numbers compared, or values of the same subjects by a paired test; and how they are printed."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from leaderboard.report.statistics import Comparison, Ratio, compare


@dataclass(frozen=True)
class Check:
    """One direction: what is claimed, the two numbers it compares, and whether it holds."""

    claim: str
    left: float
    right: float
    holds: bool


@dataclass(frozen=True)
class Less(Check):
    """``left`` is below ``right``, both means over subjects.

    The check holds where the 95 % interval of the paired difference lies below 0. It is wrong where the interval lies
    above 0. It is open where the two cannot be told apart.
    """

    difference: Comparison

    @property
    def verdict(self) -> str:
        """``holds``, ``WRONG`` or ``open``."""
        if self.holds:
            return "holds"
        return "WRONG" if self.difference.low is not None and self.difference.low > 0 else "open"

    @property
    def note(self) -> str:
        """The difference with its interval, and what an open verdict means."""
        found = self.difference
        if found.low is None or found.high is None:
            return f"; {found.n} subjects are too few to tell them apart"
        interval = f"; difference {found.difference:+.4g} [{found.low:+.4g}, {found.high:+.4g}]"
        return interval + (": cannot be told apart" if self.verdict == "open" else "")


def less(claim: str, left: NDArray[np.float64], right: NDArray[np.float64]) -> Less:
    """The check that ``left`` (S,) is below ``right`` (S,), values of the same subjects.

    Subjects with a NaN on either side are left out.
    """
    kept = np.isfinite(left) & np.isfinite(right)
    first = np.asarray(left, np.float64)[kept]
    second = np.asarray(right, np.float64)[kept]
    ones = np.ones(len(first))
    found = compare(Ratio(first, ones), Ratio(second, ones))
    lower, upper = (float(values.mean()) if len(values) else float("nan") for values in (first, second))
    return Less(claim, lower, upper, found.high is not None and found.high < 0, found)


def equal(claim: str, left: float, right: float) -> Check:
    """The check of two numbers that must be the same to the last bit."""
    return Check(claim, left, right, left == right)


def line(check: Check) -> str:
    """A check as it is printed."""
    verdict = "holds" if check.holds else "WRONG"
    note = ""
    if isinstance(check, Less):
        verdict = check.verdict
        note = check.note
    return f"{verdict:<6} {check.claim}: {_number(check.left)} against {_number(check.right)}{note}"


def _number(value: float) -> str:
    """Six digits, or all digits of a whole number."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.6g}"


def report(checks: Sequence[Check], left_out: str) -> int:
    """Print every check, and after them ``left_out``: the claims that were not checked, empty where all were.

    Returns the exit code: 1 where a claim is wrong or open, else 0.
    """
    for check in checks:
        print(line(check))
    if left_out:
        print(f"left out: {left_out}")
    return 0 if all(check.holds for check in checks) else 1


def require_positive(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises :class:`LikenessError` for an option among ``names`` whose number is below 1."""
    for name in names:
        value = getattr(arguments, name)
        if value < 1:
            raise LikenessError(f"--{name} is {value}, it must be at least 1")

"""Checks of claims: numbers compared, or the same subjects measured in two arms; what each decides, and how it is
printed."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from claims.effects import Effect, paired_effect
from claims.margins import Measure, margins
from contracts.errors import LikenessError

EffectOf = Callable[[NDArray[np.float64], NDArray[np.float64]], Effect]
HOLDS, FAILS, OPEN = "holds", "does not hold", "open"


@dataclass(frozen=True)
class Check:
    """One direction: what is claimed, the two numbers it compares, and whether it holds."""

    claim: str
    left: float
    right: float
    holds: bool

    @property
    def verdict(self) -> str:
        """``holds``, ``does not hold`` or ``open``."""
        return HOLDS if self.holds else FAILS

    @property
    def note(self) -> str:
        """What else to know, with what comes before it; may be empty."""
        return ""


@dataclass(frozen=True)
class Compared(Check):
    """Two arms of a claim, by their means over subjects and trainings, and the paired ``effect``: left less right.

    ``decided`` is the verdict. ``margin`` is the smallest effect that matters; ``None`` where none was set, and then
    only the direction is decided.
    """

    decided: str
    effect: Effect
    margin: float | None

    @property
    def verdict(self) -> str:
        """``holds``; ``does not hold``, as an effect of the margin is excluded or its opposite is shown; else
        ``open``."""
        return self.decided

    @property
    def note(self) -> str:
        """The difference with its interval, the smallest one that could have been seen, and the margin."""
        found = self.effect
        if found.low is None or found.high is None or found.visible is None:
            return f"; {found.subjects} subjects are too few to tell them apart"
        over = f"{found.subjects} subjects" + (f" x {found.seeds} trainings" if found.seeds > 1 else "")
        parts = [
            f"; difference {found.difference:+.4g} [{found.low:+.4g}, {found.high:+.4g}] over {over}",
            f"{found.visible:.2g} could have been seen",
            "no margin" if self.margin is None else f"margin {self.margin:g}",
        ]
        if self.verdict == OPEN:
            parts.append(_what_would_decide(found, self.margin))
        elif self.verdict == FAILS and found.high < 0:
            parts.append("it is there, but smaller than what matters")
        return ", ".join(parts)


def less(
    claim: str,
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    measure: Measure | None = None,
    effect_of: EffectOf = paired_effect,
) -> Compared:
    """The check that ``left`` is below ``right``: values (S,) of the same subjects, or (K, S) of K trainings each.

    - It does not hold where the 95 % interval of the difference excludes an effect of the margin, or lies above 0.
    - Else it holds where the interval lies below 0.
    - Else it is open.

    Args:
        measure: What is compared, which says the margin; ``None`` for what has none.
        effect_of: How the arms are compared: trainings paired by their seeds, or each arm with its own.
    """
    margin = None if measure is None else margins()[measure]
    effect = effect_of(left, right)
    decided = OPEN
    if effect.low is not None and effect.high is not None:
        if effect.low > (0.0 if margin is None else -margin):
            decided = FAILS
        elif effect.high < 0:
            decided = HOLDS
    return Compared(claim, *_means(left, right), decided == HOLDS, decided, effect, margin)


def keeps(
    claim: str,
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    measure: Measure,
    effect_of: EffectOf = paired_effect,
) -> Compared:
    """The check that ``left`` is not below ``right`` by the margin of ``measure``; arguments as for :func:`less`.

    It holds where the interval of the difference excludes a loss of the margin, does not hold where it lies below that
    loss, and is open else.
    """
    margin = margins()[measure]
    effect = effect_of(left, right)
    decided = OPEN
    if effect.low is not None and effect.high is not None:
        decided = HOLDS if effect.low > -margin else FAILS if effect.high < -margin else OPEN
    return Compared(claim, *_means(left, right), decided == HOLDS, decided, effect, margin)


def _means(left: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[float, float]:
    """Over the trainings and the subjects that have a value in all of them; NaN where there is none."""
    arms = [np.atleast_2d(values) for values in (left, right)]
    kept = np.all([np.isfinite(arm).all(axis=0) for arm in arms], axis=0)
    first, second = (float(arm[:, kept].mean()) if kept.any() else float("nan") for arm in arms)
    return first, second


def _what_would_decide(found: Effect, margin: float | None) -> str:
    """Whether the comparison was too weak for its margin."""
    if margin is None or found.visible is None:
        return "they cannot be told apart"
    if found.visible <= margin:
        return "they cannot be told apart, and an effect of the margin is not excluded"
    more = "trainings or subjects" if found.seeds > 1 else "subjects or images"
    return f"too few {more} to see an effect of the margin"


def equal(claim: str, left: float, right: float) -> Check:
    """The check of two numbers that must be the same to the last bit."""
    return Check(claim, left, right, left == right)


def line(check: Check) -> str:
    """A check as it is printed."""
    return f"{check.verdict:<13} {check.claim}: {_number(check.left)} against {_number(check.right)}{check.note}"


def _number(value: float) -> str:
    """Six digits, or all digits of a whole number."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.6g}"


def report(checks: Sequence[Check], left_out: str) -> int:
    """Print every check, and after them how many there are of each verdict and ``left_out``: the claims that were not
    checked, empty where all were.

    Returns the exit code: 1 where a claim does not hold or is open, else 0.
    """
    for check in checks:
        print(line(check))
    verdicts = [check.verdict for check in checks]
    print(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in (HOLDS, FAILS, OPEN)))
    if left_out:
        print(f"left out: {left_out}")
    return 0 if all(check.holds for check in checks) else 1


def report_found(found: Iterable[Check | str]) -> int:
    """As :func:`report`, of checks and, in their place, the names of what could not be checked.

    Returns the exit code: 1 also where something was left out.
    """
    checks: list[Check] = []
    left_out: list[str] = []
    for one in found:
        if isinstance(one, Check):
            checks.append(one)
        else:
            left_out.append(one)
    code = report(checks, "; ".join(left_out))
    return 1 if left_out else code


def require_positive(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises :class:`LikenessError` for an option among ``names`` whose number is below 1."""
    for name in names:
        value = getattr(arguments, name)
        if value < 1:
            raise LikenessError(f"--{name} is {value}, it must be at least 1")

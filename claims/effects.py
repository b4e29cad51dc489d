"""How large a paired difference is, how sure that is, and how small one could have been seen.

The same subjects are measured in both arms of a claim, and where a method was trained several times, in every training
of each. Subjects and training seeds are crossed then: each seed generates each subject.
"""

from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.stats
from numpy.typing import NDArray

from contracts.errors import LikenessError
from leaderboard.report.components import estimate
from leaderboard.report.statistics import FEW

POWER = 0.8
"""How often a difference of the size called visible would be found."""


@dataclass(frozen=True)
class Effect:
    """The mean difference between two arms with its 95 % interval.

    What cannot be known is ``None``: the difference without a subject in common, the rest below five subjects.

    Attributes:
        visible: The smallest true difference, of either sign, that such a comparison finds with a probability of 80 %.
        subjects: Subjects that have a value everywhere.
        seeds: Trainings of each arm.
    """

    difference: float | None
    low: float | None
    high: float | None
    visible: float | None
    subjects: int
    seeds: int


def paired_effect(left: NDArray[np.floating], right: NDArray[np.floating]) -> Effect:
    """``left`` less ``right``: values of the same subjects (S,), or of K trainings each (K, S).

    Trainings are paired by their place, as their seeds give them the same order of the data. Subjects with a NaN
    anywhere are left out. Both samples are to stand for more: other subjects, and other seeds of the same method. So
    the interval is that of :func:`leaderboard.report.components.estimate`. With one training it is the paired t
    interval over subjects.

    Raises:
        LikenessError: the arms have other numbers of subjects or trainings.
    """
    first, second = (np.atleast_2d(np.asarray(values, np.float64)) for values in (left, right))
    if first.shape != second.shape:
        raise LikenessError(
            f"arms of {first.shape[0]} trainings of {first.shape[1]} subjects and {second.shape[0]} of "
            f"{second.shape[1]} cannot be paired: measure the same subjects with as many trainings of each"
        )
    gaps = first - second
    return _effect(gaps[:, np.isfinite(gaps).all(axis=0)], None)


def unpaired_effect(left: NDArray[np.floating], right: NDArray[np.floating]) -> Effect:
    """``left`` less ``right`` as :func:`paired_effect` has it, where the trainings of the two have nothing in common:
    (K, S) and (L, S) of the same subjects. ``seeds`` is the smaller number of trainings."""
    first, second = (np.atleast_2d(np.asarray(values, np.float64)) for values in (left, right))
    kept = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    return _effect(first[:, kept], second[:, kept])


def _effect(first: NDArray[np.float64], second: NDArray[np.float64] | None) -> Effect:
    seeds, subjects = first.shape
    seeds = seeds if second is None else min(seeds, len(second))
    if subjects == 0:
        return Effect(None, None, None, None, 0, seeds)
    if subjects < FEW:
        difference = first.mean() - (0.0 if second is None else second.mean())
        return Effect(float(difference), None, None, None, subjects, seeds)
    found = estimate(first, second)
    # The statistic of a true difference of d standard errors is noncentral t with the noncentrality d.
    apart = scipy.optimize.brentq(
        lambda d: scipy.stats.nct.sf(found.critical, found.freedom, d) - POWER, 0.0, 10 * found.critical
    )
    return Effect(found.value, *found.interval, found.error * apart, subjects, seeds)

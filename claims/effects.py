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
from leaderboard.report.statistics import CONFIDENCE, FEW

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
    the variance of the mean is that of a two-way random model without replication, and the interval is Student's with
    the degrees of freedom of Satterthwaite (Searle, Casella and McCulloch, "Variance components", chapters 4 and 5).
    With one training it is the paired t interval over subjects.

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
    gaps = gaps[:, np.isfinite(gaps).all(axis=0)]
    seeds, subjects = gaps.shape
    if subjects == 0:
        return Effect(None, None, None, None, 0, seeds)
    difference = float(gaps.mean())
    if subjects < FEW:
        return Effect(difference, None, None, None, subjects, seeds)
    error, freedom = _standard_error(gaps)
    critical = float(scipy.stats.t.isf((1 - CONFIDENCE) / 2, freedom))
    reach = error * critical
    # The statistic of a true difference of d standard errors is noncentral t with the noncentrality d.
    apart = scipy.optimize.brentq(lambda d: scipy.stats.nct.sf(critical, freedom, d) - POWER, 0.0, 10 * critical)
    return Effect(difference, difference - reach, difference + reach, error * apart, subjects, seeds)


def _standard_error(gaps: NDArray[np.float64]) -> tuple[float, float]:
    """Standard error of the mean of differences (K, S), and its degrees of freedom.

    A component of the variance that is estimated below 0 counts as 0.
    """
    seeds, subjects = gaps.shape
    if seeds == 1:
        return float(gaps.std(ddof=1) / np.sqrt(subjects)), subjects - 1
    by_seed, by_subject = gaps.mean(axis=1), gaps.mean(axis=0)
    rest = gaps - by_seed[:, None] - by_subject + gaps.mean()
    squares = {
        "seed": (subjects * by_seed.var(ddof=1), seeds - 1),
        "subject": (seeds * by_subject.var(ddof=1), subjects - 1),
        "rest": (np.square(rest).sum() / ((seeds - 1) * (subjects - 1)), (seeds - 1) * (subjects - 1)),
    }
    noise = squares["rest"][0]
    above = [name for name in ("seed", "subject") if squares[name][0] > noise]
    terms = [(squares[name], 1) for name in above] if above else [(squares["rest"], 1)]
    terms += [(squares["rest"], -1)] if len(above) == 2 else []
    total = sum(sign * mean for (mean, _), sign in terms)
    spread = sum(mean**2 / freedom for (mean, freedom), _ in terms)
    if spread == 0:
        return 0.0, subjects - 1
    return float(np.sqrt(total / gaps.size)), float(total**2 / spread)

"""How sure a mean over subjects and trainings is: two-way variance components, and Satterthwaite's degrees of freedom.

Subjects and trainings of a method are crossed: every training generates every subject. Both are samples, of subjects
and of seeds that were not asked. A resampling of so few trainings says too little, a t interval does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from metrics.base import Floats, Ratio

CONFIDENCE = 0.95
_STEP = 1e-6  # of the slope of a statistic; columns are of the order of 1


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard ``error``, and the degrees of ``freedom`` of Student's t for it."""

    value: float
    error: float
    freedom: float

    @property
    def critical(self) -> float:
        """How many standard errors the 95 % interval reaches to each side."""
        return float(scipy.stats.t.isf((1 - CONFIDENCE) / 2, self.freedom))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        reach = self.error * self.critical
        return self.value - reach, self.value + reach

    @property
    def p(self) -> float:
        """Two-sided p-value of a mean of 0."""
        if self.error <= 1e-12 * max(1.0, abs(self.value)):  # no spread, for which t is not defined
            return float(abs(self.value) <= 1e-12)
        return float(2 * scipy.stats.t.sf(abs(self.value) / self.error, self.freedom))


def estimate(first: Floats, second: Floats | None = None) -> Estimate:
    """The mean of ``first``, or its difference to that of ``second``: values (K, S) of K trainings and S subjects.

    The two have the same subjects; their trainings are of their own, and may be of another number. The model is the
    two-way random one without replication (Searle, Casella and McCulloch, "Variance components", chapters 4 and 5).
    A component that is estimated below 0 counts as 0. With one training of each it is the (paired) t over subjects,
    and says nothing of other trainings.

    Satterthwaite takes mean squares for their expectations. That of two or three trainings comes out small by chance
    often enough to make his intervals too narrow. So its degrees of freedom K - 1 count as
    (K - 1) / (1 + 2 / (K - 1)^2) in his formula, which ``performance/coverage.py`` holds to 95 %. The result is K - 1
    at least.
    """
    arms = [first] if second is None else [first, second]
    subjects = first.shape[1]
    across = first.mean(axis=0) - (0.0 if second is None else second.mean(axis=0))
    seeds, rests = zip(*map(_mean_squares, arms), strict=True)
    of_subjects = float(across.var(ddof=1)) / subjects
    noise = sum(rest for rest, _ in rests)
    by_subject = of_subjects > noise or not noise
    terms = [(of_subjects, subjects - 1.0)] if by_subject else []
    for (seed, of_seeds), (rest, of_rest) in zip(seeds, rests, strict=True):
        by_seed = seed > rest
        terms += [(seed, of_seeds)] if by_seed else []
        terms += [((not by_subject) * rest - by_seed * rest, of_rest)]
    total = sum(term for term, _ in terms)
    spread = sum(term**2 / freedom for term, freedom in terms if term)
    freedom = total**2 / spread if spread else subjects - 1.0
    least = min((len(arm) - 1.0 for arm in arms if len(arm) > 1), default=0.0)
    return Estimate(float(across.mean()), float(np.sqrt(total)), max(freedom, least))


def _mean_squares(values: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean squares of the trainings and of the rest over the number of values (K, S), with their degrees of freedom."""
    seeds, subjects = values.shape
    if seeds == 1:
        return (0.0, 1.0), (0.0, 1.0)
    by_seed, by_subject = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_subject + values.mean()
    freedom = (seeds - 1) * (subjects - 1)
    return (
        (float(by_seed.var(ddof=1)) / seeds, (seeds - 1) / (1 + 2 / (seeds - 1) ** 2)),
        (float(np.square(rest).sum()) / freedom / values.size, float(freedom)),
    )


def influence(statistic: Callable[..., Floats], ratios: Sequence[Ratio]) -> Floats:
    """What each training and subject says of a function of columns: values (K, S) whose mean is the function's value.

    The function is taken for linear about the columns' values, whose own ratios are linear in each subject's sums.
    Columns of one training, such as those of an anchor, are the same beside each of K others. NaN where the function
    is not defined.
    """
    at = np.array([ratio.value for ratio in ratios])
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*at))
        steps = _STEP * np.eye(len(at))
        slopes = [(float(statistic(*(at + d))) - float(statistic(*(at - d)))) / (2 * _STEP) for d in steps]
    parts = [
        slope * (ratio.numerator - mean * ratio.denominator) / ratio.denominator.mean() if slope else 0.0
        for ratio, mean, slope in zip(ratios, at, slopes, strict=True)
    ]
    shape = np.broadcast_shapes(*(np.atleast_2d(ratio.numerator).shape for ratio in ratios))
    return value + np.broadcast_to(sum(parts), shape)

"""Intervals that respect how scores cluster: subjects are resampled, never images.

Images of one subject share its difficulty, so an interval over images is several times too narrow. Every column is
a ratio of two per-subject sums; a derived column is a function of several such ratios, which are resampled jointly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from contracts.records import Interval

CONFIDENCE = 0.95
RESAMPLES = 9_999
SEED = 0  # of the resampling, so that a table is a function of its records


@dataclass(frozen=True)
class Ratio:
    """A column by subject: ``numerator`` (S,) over ``denominator`` (S,), in the protocol's order of subjects.

    The column's value is the sum of the one over the sum of the other.
    """

    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]


def bootstrap_interval(
    statistic: Callable[..., NDArray[np.float64]], arrays: Sequence[NDArray[np.float64]], n: int
) -> Interval:
    """The statistic with its 95 % percentile bootstrap interval over subjects.

    Args:
        statistic: Maps the arrays and an ``axis`` to values, reducing that axis.
        arrays: Per-subject numbers (S,), resampled together.
        n: Number of subjects to report.

    Returns:
        The value is ``None`` where the statistic is undefined (nothing was detected); the bounds are ``None`` for fewer
        than two subjects, or where some resample leaves the statistic undefined.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*arrays, axis=-1))
        if not np.isfinite(value):
            return Interval(None, None, None, n)
        if len(arrays[0]) < 2:
            return Interval(value, None, None, n)
        low, high = scipy.stats.bootstrap(
            arrays,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=1_000,  # bounds the memory for many subjects
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    if not (np.isfinite(low) and np.isfinite(high)):
        return Interval(value, None, None, n)
    return Interval(value, float(low), float(high), n)


def ratio_interval(column: Ratio) -> Interval:
    """A column's value and interval; ``n`` counts the subjects that contribute to the denominator."""
    n = int(np.count_nonzero(column.denominator))
    return bootstrap_interval(_ratio, (column.numerator, column.denominator), n)


def identity_recovered(method: Ratio, floor: Ratio, ceiling: Ratio) -> Interval:
    """(method - floor) / (ceiling - floor): 0 is the base model, 1 a real photo; undefined where ceiling <= floor."""

    def statistic(*sums: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        ours, low, high = (_ratio(*sums[i : i + 2], axis=axis) for i in (0, 2, 4))
        return np.where(high > low, (ours - low) / (high - low), np.nan)

    return bootstrap_interval(statistic, _flat(method, floor, ceiling), len(method.numerator))


def prompt_kept(method: Ratio, floor: Ratio) -> Interval:
    """CLIP-T of the method / CLIP-T of the floor; undefined where the floor's is not positive."""

    def statistic(*sums: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        ours, base = (_ratio(*sums[i : i + 2], axis=axis) for i in (0, 2))
        return np.where(base > 0, ours / base, np.nan)

    return bootstrap_interval(statistic, _flat(method, floor), len(method.numerator))


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    return numerator.sum(axis=axis) / denominator.sum(axis=axis)


def _flat(*columns: Ratio) -> list[NDArray[np.float64]]:
    return [array for column in columns for array in (column.numerator, column.denominator)]

"""From the records of an entry to values by subject, and from these to means, intervals, tests and tie groups.

The values by subject are the arithmetic of ``metrics/``. Intervals and tests respect how scores cluster: subjects are
resampled and compared, never images. Where an entry has several trainings, so are these (``components.py``).

Images of one subject share its difficulty, so an interval over images is several times too narrow, and a test over
images raises far too many alarms. Every column is a ratio of two per-subject sums; a derived column is a function of
several such ratios, which are resampled jointly.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.records import Interval, Record
from leaderboard.report.components import CONFIDENCE, estimate, influence
from leaderboard.results.vectors import decode_vectors
from metrics.base import Floats, Ratio, Rows
from metrics.derived import DerivedMetric
from metrics.registry import METRICS

FEW = 5
"""From so many subjects on there are intervals and tests. Fewer say too little about subjects that were not asked."""
SIGNIFICANT = 0.05  # adjusted p at or below it tells two entries apart
RESAMPLES = 9_999
SEED = 0  # of the resampling, so that a table is a function of its records


class RecordTable:
    """The records of one entry, or of a part of it such as one class of prompts.

    Args:
        records: In the order of the plan.
        subjects: All subjects of the plan; one without records has sums of 0.
        samples: Images per subject and prompt.
    """

    def __init__(self, records: Sequence[Record], subjects: Sequence[str], samples: int) -> None:
        order = {subject: i for i, subject in enumerate(subjects)}
        groups: dict[tuple[str, str], int] = {}
        for record in records:
            groups.setdefault((record.subject, record.prompt_id), len(groups))
        self.records = records
        self._subjects = len(subjects)
        self._samples = samples
        self._subject = np.array([order[record.subject] for record in records], np.int64)
        self._group = np.array([groups[record.subject, record.prompt_id] for record in records], np.int64)
        self._beside = np.array([order.get(str(record.details.get("beside")), -1) for record in records], np.int64)
        self._there = np.array([not record.missing for record in records], bool)
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def rows(self, name: str) -> Rows:
        """The rows of the metric ``name``.

        Raises:
            LikenessError: a record lacks the metric's score or feature.
        """
        feature = METRICS[name].feature
        values = self._features(feature) if feature else self._scores(name)
        kept = self._there if feature else slice(None)
        subject, group, beside = (of[kept] for of in (self._subject, self._group, self._beside))
        return Rows(values, subject, group, self._subjects, self._samples, beside)

    def columns(self, names: Collection[str], kept: Mapping[str, Ratio] | None = None) -> dict[str, Ratio]:
        """The metrics among ``names`` that have a value by subject.

        Args:
            kept: Those that are made from features, where the records are without them.
        """
        found = {
            name: METRICS[name].by_subject(self.rows(name))
            if kept is None or not METRICS[name].feature
            else kept.get(name)
            for name in names
        }
        return {name: column for name, column in found.items() if column is not None}

    def whole(self, name: str, photos: NDArray[np.float32] | None) -> Interval:
        """A metric of the whole entry, without an interval.

        Args:
            photos: Features (M, D) of the held-out photos; ``None`` for the ceiling, whose images are such photos.
        """
        value = METRICS[name].value(self.rows(name), photos)
        if not np.isfinite(value):
            subjects = 0 if photos is None or len(self.records) < 2 else len(np.unique(self._subject))
            return Interval(None, None, None, subjects)
        return Interval(value, None, None, len(np.unique(self._subject)))

    def _scores(self, name: str) -> NDArray[np.float64]:
        """The score of every record, NaN where it is ``None``."""
        try:
            return np.array([record.scores[name] for record in self.records], np.float64)
        except KeyError:
            lacking = next(record.request_id for record in self.records if name not in record.scores)
            raise LikenessError(f"the record of {lacking} has no score {name}: run `--stage score` again") from None

    def _features(self, name: str) -> NDArray[np.float32]:
        if name not in self._vectors:
            try:
                found = [record.features[name] for record in self.records if not record.missing]
                self._vectors[name] = decode_vectors(found)
            except (KeyError, TypeError, ValueError) as error:
                raise LikenessError(f"a record has no readable feature {name}: run `--stage score` again") from error
        return self._vectors[name]


def counts(records: Sequence[Record]) -> dict[str, int]:
    """What went wrong, or might have, in images: a face that is missing, several, one colour, a prompt cut short."""
    return {
        "images": sum(not record.missing for record in records),
        "missing": sum(record.missing for record in records),
        "without_face": sum(record.face_missed for record in records),
        "several_faces": sum(int(record.details["faces"] or 0) > 1 for record in records),
        "blank": sum(bool(record.details["blank"]) for record in records),
        "prompts_cut": sum(int(record.details["tokens_cut"] or 0) > 0 for record in records),
    }


@dataclass(frozen=True)
class Comparison:
    """Two entries paired by subject: mean ``difference`` with its 95 % interval, two-sided ``p``, ``n`` subjects.

    What cannot be known is ``None``: the difference without a subject in common, the rest below ``FEW`` of them.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int


def ratio_interval(column: Ratio) -> Interval:
    """A column's value and interval; ``n`` counts the subjects that contribute to the denominator."""
    return interval_of(lambda ours: ours, column)


def derived_interval(metric: DerivedMetric, ours: Ratio, floor: Ratio, ceiling: Ratio) -> Interval:
    """The value and interval of a derived metric, over the subjects that all three have; they are resampled jointly."""
    return interval_of(metric.statistic, ours, floor, ceiling)


def interval_of(statistic: Callable[..., Floats], *ratios: Ratio) -> Interval:
    """A function of columns, NaN where it is not defined, with its 95 % interval over the subjects that all have.

    It is a bootstrap over subjects, and a t interval over subjects and trainings where a column is of several.
    """
    kept = np.all([ratio.pooled.denominator != 0 for ratio in ratios], axis=0)
    return (_crossed if any(ratio.several for ratio in ratios) else _bootstrap)(
        statistic, *(r.of(kept) for r in ratios)
    )


def values_of(statistic: Callable[..., Floats], *ratios: Ratio) -> Floats:
    """What each training and subject says of a function of columns (K, S), see
    :func:`leaderboard.report.components.influence`; NaN for a subject that some column lacks."""
    kept = np.all([ratio.pooled.denominator != 0 for ratio in ratios], axis=0)
    found = influence(statistic, [ratio.of(kept) for ratio in ratios]) if kept.any() else np.zeros((1, 0))
    values = np.full((len(found), len(kept)), np.nan)
    values[:, kept] = found
    return values


def _crossed(statistic: Callable[..., Floats], *ratios: Ratio) -> Interval:
    """The interval over subjects and trainings. There is one from ``FEW`` subjects on."""
    n = ratios[0].numerator.shape[-1]
    values = influence(statistic, ratios) if n else np.full((1, 1), np.nan)
    value = float(values.mean())
    if not np.isfinite(value):
        return Interval(None, None, None, n)
    low, high = estimate(values).interval if n >= FEW else (None, None)
    return Interval(value, low, high, n)


def _bootstrap(statistic: Callable[..., Floats], *ratios: Ratio) -> Interval:
    """The 95 % bootstrap interval over subjects.

    Subjects are resampled jointly. Resamples are drawn as weights, so all columns of a table share one matrix and cost
    a product each; ``scipy.stats.bootstrap`` would gather anew for each.

    Returns:
        The value is ``None`` where it is undefined (nothing was detected); the bounds are ``None`` for fewer than
        ``FEW`` subjects, or where some resample leaves the statistic undefined.
    """
    n = len(ratios[0].numerator)
    columns = [(c.numerator, c.denominator) for c in ratios]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*(np.asarray(top.sum() / bottom.sum()) for top, bottom in columns)))
        if not np.isfinite(value):
            return Interval(None, None, None, n)
        if n < FEW:
            return Interval(value, None, None, n)
        resampled = statistic(
            *(_resampled_sum(top.tobytes()) / _resampled_sum(bottom.tobytes()) for top, bottom in columns)
        )
    if not np.isfinite(resampled).all():
        return Interval(value, None, None, n)
    low, high = bounds(resampled, n)
    return Interval(value, float(low), float(high), n)


def bounds(resampled: Floats, n: int) -> tuple[Floats, Floats]:
    """Lower and upper bound (...) of the 95 % interval from resampled values (RESAMPLES, ...) of ``n`` subjects.

    The quantiles are those of the expanded percentile interval (Hesterberg 2015, "What teachers should know about the
    bootstrap", section 5.3): wider than the plain ones by what Student's t is wider than the normal, and by
    sqrt(n / (n - 1)), without which few subjects are covered too rarely.
    """
    tail = scipy.stats.norm.sf(np.sqrt(n / (n - 1)) * scipy.stats.t.isf((1 - CONFIDENCE) / 2, n - 1))
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


@lru_cache(maxsize=8)
def resample_weights(n: int) -> Floats:
    """How often each of n subjects occurs in each resample (RESAMPLES, n)."""
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64)


@lru_cache(maxsize=128)  # most columns of a table share their denominators, and every row the floor's and ceiling's
def _resampled_sum(column: bytes) -> Floats:
    """The sum (RESAMPLES,) over the subjects of each resample, of a column's float64 values."""
    values = np.frombuffer(column)
    return resample_weights(len(values)) @ values


def compare(a: Ratio, b: Ratio) -> Comparison:
    """The paired test of ``a`` against ``b`` over the subjects that both have, each weighted equally."""
    return compare_values(*(_of_subjects(column) for column in (a, b)))


def compare_values(first: Floats, second: Floats) -> Comparison:
    """The paired test of two entries: values (K, S) of K trainings of each and the same S subjects, NaN where there is
    none.

    It is Student's t over the subjects' differences, and over the trainings of an entry that has several. Subjects that
    some training has no value for are left out.
    """
    kept = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    n = int(kept.sum())
    if n == 0:
        return Comparison(None, None, None, None, 0)
    first, second = first[:, kept], second[:, kept]
    if n < FEW:
        return Comparison(float((first.mean(axis=0) - second.mean(axis=0)).mean()), None, None, None, n)
    found = estimate(first, second)
    return Comparison(found.value, *found.interval, found.p, n)


def _of_subjects(column: Ratio) -> Floats:
    """Values (K, S) of each training and subject, NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.atleast_2d(column.numerator) / np.atleast_2d(column.denominator)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979), in the order given: reject at 0.05 what is at most 0.05."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def tie_groups(ranked: Sequence[str], p: Mapping[frozenset[str], float]) -> dict[str, int]:
    """Group numbers from 1 of entries ranked from best to worst.

    A group is the best entry not yet in one, and whichever follow it without a gap that cannot be told apart from it:
    their adjusted ``p`` is above 0.05, or is not known.
    """
    groups: dict[str, int] = {}
    leader, group = "", 0
    for label in ranked:
        if not groups or p.get(frozenset((leader, label)), 1.0) <= SIGNIFICANT:
            leader, group = label, group + 1
        groups[label] = group
    return groups

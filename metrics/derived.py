"""Columns that compare an entry with floor and ceiling: a function of another metric's values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from metrics.base import Floats
from metrics.card import MetricCard


@dataclass(frozen=True)
class DerivedMetric:
    """A column made of the metric ``base``.

    ``statistic`` takes values of the entry, the floor and the ceiling, which may be arrays of resamples, and gives NaN
    where it is not defined. ``unit`` takes the values of floor and ceiling, and says what a difference of 1 in this
    column is in ``base``: order and tests of the column are those of ``base``, as floor and ceiling only rescale it.
    """

    name: str
    title: str
    base: str
    formula: str
    about: str
    statistic: Callable[[Floats, Floats, Floats], Floats]
    unit: Callable[[float | None, float | None], float | None]

    def card(self, base: MetricCard) -> MetricCard:
        """The card, from that of the metric behind it."""
        return replace(
            base,
            name=self.name,
            title=self.title,
            group="summary",
            version=f"{self.name}={self.formula}|{base.version}",
            low=None,
            high=None,
            source="Likeness",
            about=self.about,
            headline=True,
        )


def _recovered(ours: Floats, floor: Floats, ceiling: Floats) -> Floats:
    return np.where(ceiling > floor, (ours - floor) / (ceiling - floor), np.nan)


def _reach(floor: float | None, ceiling: float | None) -> float | None:
    return None if floor is None or ceiling is None else ceiling - floor


def _kept(ours: Floats, floor: Floats, ceiling: Floats) -> Floats:
    return np.where(floor > 0, ours / floor, np.nan)


IDENTITY_RECOVERED = DerivedMetric(
    name="identity_recovered",
    title="identity recovered",
    base="identity_misses_zero",
    formula="(method-floor)/(ceiling-floor)",
    about="identity with misses as 0, from the base model without the subject (0) to another real photo (1)",
    statistic=_recovered,
    unit=_reach,
)
PROMPT_KEPT = DerivedMetric(
    name="prompt_kept",
    title="prompt kept",
    base="clip_t",
    formula="method/floor",
    about="CLIP-T over that of the base model",
    statistic=_kept,
    unit=lambda floor, ceiling: floor,
)
DERIVED: Mapping[str, DerivedMetric] = {metric.name: metric for metric in (IDENTITY_RECOVERED, PROMPT_KEPT)}


def derived_cards(cards: Mapping[str, MetricCard]) -> tuple[MetricCard, ...]:
    """The cards of all derived metrics, from the measured ones by name."""
    return tuple(metric.card(cards[metric.base]) for metric in DERIVED.values())

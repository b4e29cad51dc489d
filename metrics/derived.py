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
            caution="",
            headline=True,
            by_class=False,
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
SUBJECT_RECOVERED = replace(
    IDENTITY_RECOVERED,
    name="subject_recovered",
    title="subject recovered",
    base="subject_likeness",
    about="likeness of an object, from the base model without the subject (0) to another real photo (1)",
)
PAIR_RECOVERED = replace(
    IDENTITY_RECOVERED,
    name="pair_recovered",
    title="pair recovered",
    base="pair_identity",
    about="identity of the pair, from the base model without the subjects (0) to two real photos side by side (1)",
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
RECOVERED = (IDENTITY_RECOVERED, SUBJECT_RECOVERED, PAIR_RECOVERED)
"""How much of a subject comes back, of people, of objects, and of two people: what a board is read by first."""
DERIVED: Mapping[str, DerivedMetric] = {metric.name: metric for metric in (*RECOVERED, PROMPT_KEPT)}


def all_cards(measured: Mapping[str, MetricCard]) -> dict[str, MetricCard]:
    """The cards of all columns by name, from the measured ones: first the derived metrics whose base is measured.

    A recovered column is only to be read with the copy-paste that guards it, which stands beside it.
    """
    cards: dict[str, MetricCard] = {}
    for metric in DERIVED.values():
        if metric.base in measured:
            card = metric.card(measured[metric.base])
            cards |= {card.name: card, **{name: measured[name] for name in card.guards if name in measured}}
    return {**cards, **measured}

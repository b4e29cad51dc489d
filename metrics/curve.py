"""Columns that read a method's whole curve of likeness against prompt, drawn by a sweep, instead of one point of it.

How strongly a method puts the subject in is its user's choice, and most methods buy likeness with prompt fit. One
setting of each compares the settings; these columns compare the curves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from metrics.base import Floats
from metrics.card import MetricCard
from metrics.derived import IDENTITY_RECOVERED, PAIR_RECOVERED, PROMPT_KEPT, SUBJECT_RECOVERED

PROMPT = PROMPT_KEPT.base
SHARE = 0.95
"""The share of the prompt, as the base model fits it, that methods are compared at."""
LEAST = 0.8
_THRESHOLDS = np.linspace(LEAST, 1.0, 41)


@dataclass(frozen=True)
class CurveMetric:
    """A column of the likeness ``base`` along a curve.

    ``read`` takes the likeness and the share of the prompt that is kept at each of P points in the order of the sweep,
    (P, ...) each, and the floor's likeness (...). It gives (...), NaN where it is not defined.
    """

    name: str
    title: str
    base: str
    formula: str
    about: str
    headline: bool
    read: Callable[[Floats, Floats, Floats], Floats]

    def statistic(self, *columns: Floats) -> Floats:
        """The column as a function of others' values: the likeness at P points, then CLIP-T at them, then the floor's
        two."""
        *points, floor, floor_prompt = columns
        likeness, prompt = np.split(np.array(points), 2)
        return self.read(likeness, prompt / floor_prompt, floor)

    def card(self, base: MetricCard, prompt: MetricCard) -> MetricCard:
        """The card, from those of the two metrics behind it."""
        return replace(
            base,
            name=self.name,
            title=self.title,
            group="summary",
            version=f"{self.name}={self.formula}|{base.version}|{prompt.version}",
            low=None,
            high=None,
            source="Likeness",
            about=self.about,
            caution="",
            headline=self.headline,
            by_class=False,
        )


def likeness_at(likeness: Floats, kept: Floats, share: float | Floats) -> Floats:
    """The likeness (...) where the curve crosses ``share`` of the prompt, linear between neighbouring points.

    The highest, where it crosses several times; NaN where it does not.
    """
    before, after = kept[:-1], kept[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        way = (before - share) / (before - after)
    there = likeness[:-1] + way * (likeness[1:] - likeness[:-1])
    return np.fmax.reduce(np.where((way >= 0) & (way <= 1), there, np.nan), axis=0)


def _at_share(likeness: Floats, kept: Floats, floor: Floats) -> Floats:
    return likeness_at(likeness, kept, SHARE)


def _area(likeness: Floats, kept: Floats, floor: Floats) -> Floats:
    """The mean over shares of the prompt of the best likeness that keeps as much; where no point does, the floor's."""
    best = []
    for share in _THRESHOLDS:
        points = np.fmax.reduce(np.where(kept >= share, likeness, np.nan), axis=0)
        found = np.fmax(points, likeness_at(likeness, kept, share))
        best.append(np.where(np.isnan(found), floor, found))
    return np.mean(best, axis=0)


_AT = CurveMetric(
    name=f"identity_at_prompt_{SHARE:g}",
    title=f"identity at prompt {SHARE:g}",
    base=IDENTITY_RECOVERED.base,
    formula=f"curve-crosses-prompt-kept-{SHARE:g}",
    about=f"identity with misses as 0 where {SHARE:.0%} of the prompt is kept, on the curve of a sweep",
    headline=True,
    read=_at_share,
)
_OVER = CurveMetric(
    name="identity_prompt_area",
    title=f"identity over prompt {LEAST:g} to 1",
    base=IDENTITY_RECOVERED.base,
    formula=f"mean-best-over-prompt-kept-{LEAST:g}-1",
    about=f"identity with misses as 0, the best that keeps a share of the prompt, mean over shares from {LEAST:g} to 1",
    headline=False,
    read=_area,
)
CURVES: Mapping[str, CurveMetric] = {
    metric.name: metric
    for metric in (
        _AT,
        replace(
            _AT,
            name=f"subject_at_prompt_{SHARE:g}",
            title=f"likeness at prompt {SHARE:g}",
            base=SUBJECT_RECOVERED.base,
            about=f"likeness of an object where {SHARE:.0%} of the prompt is kept, on the curve of a sweep",
        ),
        replace(
            _AT,
            name=f"pair_at_prompt_{SHARE:g}",
            title=f"identity of the pair at prompt {SHARE:g}",
            base=PAIR_RECOVERED.base,
            about=f"identity of the pair where {SHARE:.0%} of the prompt is kept, on the curve of a sweep",
        ),
        _OVER,
        replace(
            _OVER,
            name="subject_prompt_area",
            title=f"likeness over prompt {LEAST:g} to 1",
            base=SUBJECT_RECOVERED.base,
            about=f"likeness of an object, the best that keeps a share of the prompt, mean over shares {LEAST:g} to 1",
        ),
        replace(
            _OVER,
            name="pair_prompt_area",
            title=f"identity of the pair over prompt {LEAST:g} to 1",
            base=PAIR_RECOVERED.base,
            about=f"identity of the pair, the best that keeps a share of the prompt, mean over shares {LEAST:g} to 1",
        ),
    )
}


def curve_cards(measured: Mapping[str, MetricCard]) -> dict[str, MetricCard]:
    """The cards of the columns of curves by name, from the measured ones: those whose two metrics are measured."""
    return {
        name: metric.card(measured[metric.base], measured[PROMPT])
        for name, metric in CURVES.items()
        if metric.base in measured and PROMPT in measured
    }

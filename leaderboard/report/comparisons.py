"""Head to head: every pair of methods in every column, Holm's correction within a column, and who ties with whom."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np

from leaderboard.report.statistics import Comparison, compare, compare_values, holm, ratio_interval, tie_groups
from metrics.base import Floats, Ratio
from metrics.card import MetricCard
from metrics.derived import DERIVED


@dataclass(frozen=True)
class Pair:
    """Entry ``a`` against entry ``b``; ``p_holm`` is corrected for all pairs of the column, ``None`` without a test."""

    a: str
    b: str
    result: Comparison
    p_holm: float | None


def compare_pairs(columns: Mapping[str, Ratio], unit: float | None = 1.0) -> list[Pair]:
    """All pairs of entries in one column, given by label; differences are in multiples of ``unit``."""
    return _corrected([(a, b, in_units(compare(columns[a], columns[b]), unit)) for a, b in combinations(columns, 2)])


def compare_curves(values: Mapping[str, Floats]) -> list[Pair]:
    """All pairs of entries in a column of curves, by what each training and subject says (K, S), given by label."""
    return _corrected([(a, b, compare_values(values[a], values[b])) for a, b in combinations(values, 2)])


def _corrected(pairs: list[tuple[str, str, Comparison]]) -> list[Pair]:
    adjusted = iter(holm([result.p for _, _, result in pairs if result.p is not None]))
    return [Pair(a, b, result, None if result.p is None else next(adjusted)) for a, b, result in pairs]


def in_units(found: Comparison, unit: float | None) -> Comparison:
    """The same test with its difference in multiples of ``unit``; without a positive one nothing is known."""
    if unit is None or unit <= 0:
        return Comparison(None, None, None, None, found.n)
    difference, low, high = (None if x is None else x / unit for x in (found.difference, found.low, found.high))
    return Comparison(difference, low, high, found.p, found.n)


def units_of(floor: Mapping[str, Ratio], ceiling: Mapping[str, Ratio]) -> dict[str, float | None]:
    """By derived column: what a difference of 1 there is in the column behind it, ``None`` where that is not known.

    ``floor`` is empty where there is none.
    """

    def value(columns: Mapping[str, Ratio], name: str) -> float | None:
        return ratio_interval(columns[name]).value if name in columns else None

    return {
        name: metric.unit(value(floor, metric.base), value(ceiling, metric.base)) for name, metric in DERIVED.items()
    }


def rank_and_tie(columns: Mapping[str, Ratio], pairs: list[Pair], higher_is_better: bool) -> dict[str, int]:
    """Tie groups of one column; an entry without a value is in none, and there are none where nothing was tested."""
    values = {label: ratio_interval(column).value for label, column in columns.items()}
    return _ties({label: value for label, value in values.items() if value is not None}, pairs, higher_is_better)


def _ties(known: Mapping[str, float], pairs: list[Pair], higher_is_better: bool) -> dict[str, int]:
    """Tie groups of the entries whose values are ``known``."""
    ranked = sorted(known, key=lambda label: (-known[label] if higher_is_better else known[label], label))
    tested = {frozenset((p.a, p.b)): p.p_holm for p in pairs if p.p_holm is not None and {p.a, p.b} <= known.keys()}
    return tie_groups(ranked, tested) if tested or len(known) == 1 else {}


def head_to_head(
    methods: Mapping[str, Mapping[str, Ratio]],
    cards: Mapping[str, MetricCard],
    units: Mapping[str, float | None],
    copies: Mapping[str, Collection[str]],
    incomplete: Collection[str] = (),
    curves: Mapping[str, Mapping[str, Floats]] = MappingProxyType({}),
) -> tuple[dict[str, list[Pair]], dict[str, dict[str, int]]]:
    """Pairs and tie groups by column.

    Args:
        methods: {label: {column: sums by subject}} of the entries that are methods.
        cards: The board's columns. Those without sums by subject (KID) are left out.
        units: For each derived column what :func:`units_of` says.
        copies: The columns of copy-paste by which an entry copies, by label. It is in no tie group of a likeness.
        incomplete: Entries that lack images. They are in no tie group.
        curves: {column: {label: values}} of columns of curves, see :func:`compare_curves`.
    """
    pairs: dict[str, list[Pair]] = {}
    ties: dict[str, dict[str, int]] = {}

    def competes(label: str, card: MetricCard) -> bool:
        return label not in incomplete and not set(card.guards) & set(copies.get(label, ()))

    for name, card in cards.items():
        if name in curves:
            pairs[name] = compare_curves(curves[name])
            competing = {label: said for label, said in curves[name].items() if competes(label, card)}
            known = {label: float(np.nanmean(said)) for label, said in competing.items() if np.isfinite(said).any()}
            ties[name] = _ties(known, pairs[name], card.higher_is_better)
            continue
        base = DERIVED[name].base if name in DERIVED else name
        columns = {label: found[base] for label, found in methods.items() if base in found}
        if columns:
            unit = units[name] if name in DERIVED else 1.0
            pairs[name] = compare_pairs(columns, unit)
            taking_part = {label: column for label, column in columns.items() if competes(label, card)}
            ties[name] = rank_and_tie(taking_part, pairs[name], card.higher_is_better) if unit is not None else {}
    return pairs, ties

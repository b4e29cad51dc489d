"""Head to head: every pair of methods in every column, Holm's correction within a column, and who ties with whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from leaderboard.statistics import Comparison, Ratio, compare, holm, ratio_interval, tie_groups
from metrics.card import MetricCard

BASE_OF = {"identity_recovered": "identity_misses_zero", "prompt_kept": "clip_t"}
"""Columns that floor and ceiling only rescale: their order and their tests are those of the column behind them."""


@dataclass(frozen=True)
class Pair:
    """Entry ``a`` against entry ``b``; ``p_holm`` is corrected for all pairs of the column, ``None`` without a test."""

    a: str
    b: str
    result: Comparison
    p_holm: float | None


def compare_pairs(columns: Mapping[str, Ratio]) -> list[Pair]:
    """All pairs of entries in one column, given by label."""
    pairs = [(a, b, compare(columns[a], columns[b])) for a, b in combinations(columns, 2)]
    adjusted = iter(holm([result.p for _, _, result in pairs if result.p is not None]))
    return [Pair(a, b, result, None if result.p is None else next(adjusted)) for a, b, result in pairs]


def rank_and_tie(columns: Mapping[str, Ratio], pairs: list[Pair], higher_is_better: bool) -> dict[str, int]:
    """Tie groups of one column; an entry without a value is in none."""
    values = {label: ratio_interval(column).value for label, column in columns.items()}
    known = {label: value for label, value in values.items() if value is not None}
    ranked = sorted(known, key=lambda label: (-known[label] if higher_is_better else known[label], label))
    return tie_groups(ranked, {frozenset((p.a, p.b)): p.p_holm for p in pairs if p.p_holm is not None})


def head_to_head(
    methods: Mapping[str, Mapping[str, Ratio]], cards: Mapping[str, MetricCard]
) -> tuple[dict[str, list[Pair]], dict[str, dict[str, int]]]:
    """Pairs and tie groups by column.

    Args:
        methods: {label: {column: sums by subject}} of the entries that are methods.
        cards: The board's columns. Those without sums by subject (KID) are left out.
    """
    pairs: dict[str, list[Pair]] = {}
    ties: dict[str, dict[str, int]] = {}
    for name, card in cards.items():
        base = BASE_OF.get(name, name)
        columns = {label: found[base] for label, found in methods.items() if base in found}
        if columns:
            pairs[name] = compare_pairs(columns)
            ties[name] = rank_and_tie(columns, pairs[name], card.higher_is_better)
    return pairs, ties

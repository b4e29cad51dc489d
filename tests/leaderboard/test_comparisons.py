"""Head to head over several methods and columns."""

import numpy as np
import pytest

from leaderboard.report.comparisons import compare_pairs, head_to_head, units_of
from leaderboard.report.statistics import Ratio, compare, holm
from metrics.derived import all_cards
from tests.helpers.boards import cards

NOISE = np.random.default_rng(0).normal(0, 0.02, (3, 12))


def column(level: float, row: int) -> Ratio:
    return Ratio(10 * (level + NOISE[row]), np.full(12, 10.0))


METHODS = {
    "good": {"identity_misses_zero": column(0.5, 0), "clip_t": column(0.2, 0), "kid": column(0, 0)},
    "fair": {"identity_misses_zero": column(0.3, 1), "clip_t": column(0.2, 1)},
    "poor": {"identity_misses_zero": column(0.3, 2), "clip_t": column(0.4, 2)},
}


def test_p_values_are_corrected_for_all_pairs_of_the_column() -> None:
    columns = {label: found["clip_t"] for label, found in METHODS.items()}
    pairs = compare_pairs(columns)
    assert [(p.a, p.b) for p in pairs] == [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    raw = [compare(columns[p.a], columns[p.b]).p for p in pairs]
    assert [p.p_holm for p in pairs] == pytest.approx(holm([p for p in raw if p is not None]))


def test_groups_are_by_column_and_best_first() -> None:
    board = {card.name: card for card in cards() if card.name in ("identity_misses_zero", "clip_t", "kid")}
    pairs, ties = head_to_head(METHODS, board, {}, {})
    assert ties["identity_misses_zero"] == {"good": 1, "fair": 2, "poor": 2}
    assert ties["clip_t"] == {"poor": 1, "good": 2, "fair": 2}
    assert len(pairs["clip_t"]) == 3


def test_a_column_of_which_lower_is_better_is_ranked_the_other_way() -> None:
    lower = [card for card in cards() if card.name == "kid"]
    methods = {label: {"kid": found["clip_t"]} for label, found in METHODS.items()}
    _, ties = head_to_head(methods, {"kid": lower[0]}, {}, {})
    assert ties["kid"]["poor"] == 2


def test_an_entry_without_a_value_is_in_no_group() -> None:
    methods = {"a": {"clip_t": column(0.3, 0)}, "b": {"clip_t": Ratio(np.zeros(12), np.zeros(12))}}
    pairs, ties = head_to_head(methods, {card.name: card for card in cards() if card.name == "clip_t"}, {}, {})
    assert ties["clip_t"] == {"a": 1}
    assert pairs["clip_t"][0].p_holm is None


def test_an_entry_that_copies_is_in_no_group_of_a_likeness() -> None:
    board = {card.name: card for card in cards() if card.name in ("identity_misses_zero", "clip_t")}
    pairs, ties = head_to_head(METHODS, board, {}, {"good": ["copy_paste"]})
    assert ties["identity_misses_zero"] == {"fair": 1, "poor": 1}
    assert ties["clip_t"] == {"poor": 1, "good": 2, "fair": 2}, "fit to the prompt is not won by copying"
    assert len(pairs["identity_misses_zero"]) == 3, "what was measured stays"


def test_below_five_subjects_nobody_is_in_a_group() -> None:
    few = {
        label: {"clip_t": Ratio(c["clip_t"].numerator[:4], c["clip_t"].denominator[:4])} for label, c in METHODS.items()
    }
    pairs, ties = head_to_head(few, {card.name: card for card in cards() if card.name == "clip_t"}, {}, {})
    assert ties["clip_t"] == {}
    assert {(pair.p_holm, pair.result.low) for pair in pairs["clip_t"]} == {(None, None)}


def test_without_a_floor_a_recovered_column_has_no_differences_and_no_groups() -> None:
    measured = {card.name: card for card in cards() if card.name in ("identity_misses_zero", "clip_t")}
    units = units_of({}, {"identity_misses_zero": column(0.9, 0), "clip_t": column(0.1, 0)})
    assert set(units.values()) == {None}
    pairs, ties = head_to_head(METHODS, all_cards(measured), units, {})
    assert ties["identity_recovered"] == ties["prompt_kept"] == {}
    assert {pair.result.difference for pair in pairs["identity_recovered"]} == {None}
    assert ties["identity_misses_zero"] == {"good": 1, "fair": 2, "poor": 2}

import numpy as np
import pytest
import scipy.stats

from contracts.records import Interval
from leaderboard.report.statistics import (
    bounds,
    compare,
    derived_interval,
    holm,
    ratio_interval,
    resample_weights,
    tie_groups,
)
from metrics.base import Ratio
from metrics.derived import IDENTITY_RECOVERED, PROMPT_KEPT

IDENTITIES, PROMPTS, SEEDS, REPEATS, AT_ONCE = 15, 40, 4, 2000, 100


def column(values: list[float], images: int = 4) -> Ratio:
    return Ratio(np.array(values) * images, np.full(len(values), float(images)))


def test_value_is_the_ratio_of_sums() -> None:
    found = ratio_interval(Ratio(np.array([1.0, 3.0, 1.0, 2.0, 3.0]), np.array([2.0, 8.0, 3.0, 4.0, 8.0])))
    assert found.value == pytest.approx(0.4)
    assert found.n == 5
    assert found.low is not None and found.high is not None and found.low <= 0.4 <= found.high


def test_same_records_same_interval() -> None:
    values = column([0.1, 0.5, 0.3, 0.9, 0.7])
    assert ratio_interval(values) == ratio_interval(values)
    assert ratio_interval(values).low is not None


def test_below_five_subjects_there_is_a_value_and_no_interval_and_no_test() -> None:
    for n in range(1, 7):
        values = [0.1 * i for i in range(n)]
        found = ratio_interval(column(values))
        assert found.value == pytest.approx(np.mean(values)) and found.n == n
        assert (found.low is None) is (found.high is None) is (n < 5)
        tested = compare(column(values), column([0.2 * i**2 for i in range(n)]))
        assert tested.difference is not None and tested.n == n
        assert (tested.low is None) is (tested.high is None) is (tested.p is None) is (n < 5)


def test_subjects_count_that_have_a_value_and_not_those_of_the_plan() -> None:
    found = ratio_interval(Ratio(np.arange(8.0), np.array([1, 1, 1, 1, 0, 0, 0, 0.0])))
    assert (found.value, found.low, found.n) == (pytest.approx(1.5), None, 4)


def test_nothing_detected_is_undefined_and_not_zero() -> None:
    found = ratio_interval(Ratio(np.zeros(3), np.zeros(3)))
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)


def test_equal_subjects_have_an_interval_of_no_width() -> None:
    found = ratio_interval(column([0.5] * 6))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_floor_recovers_nothing_and_ceiling_everything() -> None:
    floor, ceiling = column([0.1, 0.2, 0.0, 0.1, 0.0]), column([0.7, 0.8, 0.9, 0.6, 0.8])
    assert derived_interval(IDENTITY_RECOVERED, floor, floor, ceiling).value == pytest.approx(0.0)
    top = derived_interval(IDENTITY_RECOVERED, ceiling, floor, ceiling)
    assert (top.value, top.low, top.high) == pytest.approx((1.0, 1.0, 1.0))
    assert derived_interval(IDENTITY_RECOVERED, column([0.5] * 5), ceiling, floor).value is None


def test_recovered_is_over_the_subjects_that_entry_floor_and_ceiling_have() -> None:
    """An object has no identity, whoever lacks it: its zeros must not pull one of the three down."""
    every, some = np.ones(7), np.array([1, 1, 1, 1, 1, 0, 1.0])
    ours, floor, ceiling = (Ratio(level * known, known) for level, known in ((0.5, every), (0.1, some), (0.9, every)))
    floor = Ratio(floor.numerator + 0.3 * (np.arange(7) == 6), floor.denominator)
    found = derived_interval(IDENTITY_RECOVERED, ours, floor, ceiling)
    assert found.n == 6
    assert found.value == pytest.approx((0.5 - 0.15) / (0.9 - 0.15))


def test_recovered_identity_resamples_the_three_rows_together() -> None:
    """Where subjects differ but the method recovers half of every one, the joint interval has no width."""
    rng = np.random.default_rng(1)
    low = rng.normal(0.1, 0.1, 12)
    high = low + 0.6
    found = derived_interval(IDENTITY_RECOVERED, column(list((low + high) / 2)), column(list(low)), column(list(high)))
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))


def test_prompt_kept_is_a_ratio_to_the_floor() -> None:
    def kept(ours: list[float], floor: list[float]) -> Interval:
        return derived_interval(PROMPT_KEPT, column(ours), column(floor), column([0.1] * 2))

    assert kept([0.18, 0.27], [0.2, 0.3]).value == pytest.approx(0.9)
    assert kept([0.2, 0.2], [0.0, 0.0]).value is None


def simulate(rng: np.random.Generator, methods: int = 1, evaluations: int = AT_ONCE) -> np.ndarray:
    """Scores (methods, evaluations, identities, prompts x seeds) about 0 with the spreads of a real evaluation.

    Identities 0.08, prompts 0.06 (fixed by the protocol, so centred), method x identity 0.03, images 0.12.
    """
    identity = rng.normal(0, 0.08, (1, evaluations, IDENTITIES, 1))
    prompt = np.repeat(rng.normal(0, 0.06, (evaluations, 1, PROMPTS)), SEEDS, axis=-1)
    taste = rng.normal(0, 0.03, (methods, evaluations, IDENTITIES, 1))
    noise = rng.normal(0, 0.12, (methods, evaluations, IDENTITIES, PROMPTS * SEEDS))
    return identity + (prompt - prompt.mean(axis=-1, keepdims=True)) + taste + noise


def as_column(scores: np.ndarray) -> Ratio:
    return Ratio(scores.sum(axis=1), np.full(len(scores), float(scores.shape[1])))


def beyond(scores: np.ndarray) -> np.ndarray:
    """Whether 0 lies outside an interval over images (evaluations,), from scores (evaluations, ...)."""
    flat = scores.reshape(len(scores), -1)
    return np.abs(flat.mean(axis=1)) > 1.96 * flat.std(axis=1) / np.sqrt(flat.shape[1])


def test_the_interval_covers_what_it_says_where_one_over_images_does_not() -> None:
    """Many evaluations at once, of which a few are held to the interval of the table."""
    rng = np.random.default_rng(0)
    over_subjects = over_images = 0
    for _ in range(REPEATS // AT_ONCE):
        scores = simulate(rng)[0]
        low, high = bounds(resample_weights(IDENTITIES) @ scores.mean(axis=2).T / IDENTITIES, IDENTITIES)
        for evaluation in (0, AT_ONCE - 1):
            found = ratio_interval(as_column(scores[evaluation]))
            assert (found.low, found.high) == pytest.approx((low[evaluation], high[evaluation]), abs=1e-12)
        over_subjects += int(((low <= 0) & (high >= 0)).sum())
        over_images += int((~beyond(scores)).sum())
    assert 0.93 <= over_subjects / REPEATS <= 0.97
    assert over_images / REPEATS < 0.40


def test_the_paired_test_raises_few_false_alarms_where_one_over_images_raises_many() -> None:
    """Many evaluations at once, of which a few are held to the comparison of the table."""
    rng = np.random.default_rng(1)
    over_subjects = over_images = 0
    for _ in range(REPEATS // AT_ONCE):
        a, b = simulate(rng, methods=2)
        p = scipy.stats.ttest_rel(a.mean(axis=2), b.mean(axis=2), axis=1).pvalue
        for evaluation in (0, AT_ONCE - 1):
            assert compare(as_column(a[evaluation]), as_column(b[evaluation])).p == pytest.approx(p[evaluation])
        over_subjects += int((p <= 0.05).sum())
        over_images += int(beyond(a - b).sum())
    assert over_subjects / REPEATS <= 0.06
    assert over_images / REPEATS > 0.25


def test_pairing_finds_a_gain_that_two_intervals_would_hide() -> None:
    rng = np.random.default_rng(2)
    paired = apart = 0
    for a, b in zip(*simulate(rng, methods=2), strict=True):
        first, second = as_column(a + 0.04), as_column(b)
        paired += (compare(first, second).p or 1.0) <= 0.05
        low, high = ratio_interval(first).low, ratio_interval(second).high
        apart += low is not None and high is not None and low > high
    assert paired > 0.75 * AT_ONCE and apart < 0.1 * AT_ONCE


def test_a_comparison_is_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 0.1, 12), rng.normal(0.4, 0.1, 12)
    found, expected = compare(column(list(a)), column(list(b))), scipy.stats.ttest_1samp(a - b, 0.0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx(float(np.mean(a - b)))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.n == 12
    back = compare(column(list(b)), column(list(a)))
    assert (back.difference, back.p) == pytest.approx((-found.difference, found.p))  # type: ignore[operator]


def test_subjects_that_one_side_lacks_are_left_out() -> None:
    a = Ratio(np.array([1.0, 2.0, 9.0]), np.array([2.0, 2.0, 2.0]))
    b = Ratio(np.array([0.0, 1.0, 0.0]), np.array([2.0, 2.0, 0.0]))
    found = compare(a, b)
    assert found.n == 2 and found.difference == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("a", "b", "p"), [([0.5] * 5, [0.5] * 5, 1.0), ([0.5, 0.2] * 3, [0.4, 0.1] * 3, 0.0), ([0.5], [0.4], None)]
)
def test_what_has_no_spread_or_too_few_subjects_is_defined(a: list[float], b: list[float], p: float | None) -> None:
    assert compare(column(a), column(b)).p == p


def test_nothing_in_common_is_not_a_difference_of_zero() -> None:
    empty = Ratio(np.zeros(3), np.zeros(3))
    found = compare(column([0.1, 0.2, 0.3]), empty)
    assert (found.difference, found.low, found.p, found.n) == (None, None, None, 0)


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_tie_groups_follow_their_best_entry() -> None:
    p = {
        frozenset("ab"): 0.2,
        frozenset("ac"): 0.01,
        frozenset("bc"): 0.3,
        frozenset("cd"): 0.5,
        frozenset("ad"): 0.001,
    }
    assert tie_groups(["a", "b", "c", "d"], p) == {"a": 1, "b": 1, "c": 2, "d": 2}
    assert tie_groups(["a", "b"], {}) == {"a": 1, "b": 1}, "what was not tested cannot be told apart"
    assert tie_groups([], {}) == {}

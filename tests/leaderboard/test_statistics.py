import math

import numpy as np
import pytest

from leaderboard.statistics import Ratio, identity_recovered, prompt_kept, ratio_interval


def column(values: list[float], images: int = 4) -> Ratio:
    return Ratio(np.array(values) * images, np.full(len(values), float(images)))


def test_value_is_the_ratio_of_sums() -> None:
    found = ratio_interval(Ratio(np.array([1.0, 3.0]), np.array([2.0, 8.0])))
    assert found.value == pytest.approx(0.4)
    assert found.n == 2
    assert found.low is not None and found.high is not None and found.low <= 0.4 <= found.high


def test_same_records_same_interval() -> None:
    values = column([0.1, 0.5, 0.3, 0.9])
    assert ratio_interval(values) == ratio_interval(values)


def test_one_subject_has_no_interval() -> None:
    found = ratio_interval(column([0.25]))
    assert (found.value, found.low, found.high, found.n) == (0.25, None, None, 1)


def test_nothing_detected_is_undefined_and_not_zero() -> None:
    found = ratio_interval(Ratio(np.zeros(3), np.zeros(3)))
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)


def test_equal_subjects_have_an_interval_of_no_width() -> None:
    found = ratio_interval(column([0.5] * 6))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_floor_recovers_nothing_and_ceiling_everything() -> None:
    floor, ceiling = column([0.1, 0.2, 0.0]), column([0.7, 0.8, 0.9])
    assert identity_recovered(floor, floor, ceiling).value == pytest.approx(0.0)
    top = identity_recovered(ceiling, floor, ceiling)
    assert (top.value, top.low, top.high) == pytest.approx((1.0, 1.0, 1.0))
    assert identity_recovered(column([0.5] * 3), ceiling, floor).value is None


def test_recovered_identity_resamples_the_three_rows_together() -> None:
    """Where subjects differ but the method recovers half of every one, the joint interval has no width."""
    rng = np.random.default_rng(1)
    low = rng.normal(0.1, 0.1, 12)
    high = low + 0.6
    found = identity_recovered(column(list((low + high) / 2)), column(list(low)), column(list(high)))
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))


def test_prompt_kept_is_a_ratio_to_the_floor() -> None:
    assert prompt_kept(column([0.18, 0.27]), column([0.2, 0.3])).value == pytest.approx(0.9)
    assert prompt_kept(column([0.2, 0.2]), column([0.0, 0.0])).value is None


def test_coverage_on_clustered_scores() -> None:
    """Scores of one subject share its effect: the interval over subjects covers the truth, one over images does not."""
    truth, subjects, images, repeats = 0.5, 20, 40, 100
    rng = np.random.default_rng(2)
    over_subjects = over_images = 0
    for _ in range(repeats):
        effect = rng.normal(truth, 0.08, (subjects, 1))
        scores = effect + rng.normal(0, 0.12, (subjects, images))
        found = ratio_interval(Ratio(scores.sum(axis=1), np.full(subjects, float(images))))
        assert found.low is not None and found.high is not None
        over_subjects += found.low <= truth <= found.high
        half = 1.96 * scores.std() / math.sqrt(scores.size)
        over_images += abs(scores.mean() - truth) <= half
    assert over_subjects >= 86
    assert over_images <= 60

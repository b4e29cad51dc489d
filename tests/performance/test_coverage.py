"""The simulation behind the table in docs/evaluation.md, in a few cases and shorter."""

import numpy as np
import pytest

from leaderboard.report.components import estimate
from leaderboard.report.statistics import ratio_interval
from metrics.base import Ratio
from performance import coverage
from performance.coverage import Cell, simulate, table


@pytest.mark.parametrize(("trainings", "spread"), [(2, 1.0), (3, 0.0), (3, 2.0), (5, 2.0)])
def test_intervals_over_subjects_and_trainings_hold_what_they_say(trainings: int, spread: float) -> None:
    """With 500 evaluations the share of 0.95 itself varies by 0.01."""
    cell = simulate(trainings, spread, 500)
    assert 0.92 <= cell.covered <= 0.98 and cell.false_alarms <= 0.075


def test_an_interval_over_subjects_alone_does_not() -> None:
    """The same evaluations, each training's mean taken for sure."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        values = coverage._method(rng, rng.normal(0, coverage.IDENTITY, coverage.SUBJECTS), 3, 2.0).numerator
        found = ratio_interval(Ratio(values.mean(axis=0), np.ones(coverage.SUBJECTS)))
        held.append(found.low <= 0 <= found.high)  # type: ignore[operator]
    assert np.mean(held) < 0.85


def test_a_case_that_misses_a_goal_says_so() -> None:
    assert Cell(3, 1.0, 0.95, 0.05).holds
    assert not Cell(3, 1.0, 0.92, 0.05).holds and not Cell(3, 1.0, 0.95, 0.07).holds
    assert "| 3 | 0.950 / 0.050 |" in table([Cell(3, 0.0, 0.95, 0.05)])


def test_one_training_is_students_t_and_equal_trainings_add_nothing() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, (1, 12))
    one, thrice = estimate(values), estimate(np.repeat(values, 3, axis=0))
    assert one.freedom == 11 and one.error == pytest.approx(values.std(ddof=1) / np.sqrt(12))
    assert (thrice.value, thrice.error) == pytest.approx((one.value, one.error))
    apart = estimate(values + np.array([[-0.3], [0.0], [0.3]]))
    assert apart.error > 3 * one.error and apart.freedom < 3


def test_the_numbers_of_trainings_may_differ() -> None:
    rng = np.random.default_rng(2)
    subjects = rng.normal(0, 1, 12)
    first, second = subjects + rng.normal(0, 0.1, (3, 12)), subjects[None] + 0.5
    found = estimate(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.error < 0.1, "the subjects are the same on both sides"
    assert estimate(second, first).interval == pytest.approx(tuple(-x for x in reversed(found.interval)))

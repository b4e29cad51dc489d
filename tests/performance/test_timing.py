"""The benchmarks' own ruler."""

import time

import pytest

from performance.timing import Result, Rounds, compare, seconds


def _result(**changes: object) -> Result:
    values: dict = {"name": "step", "ours": 1.0, "reference": 1.0, "ratio": 1.0, "goal": 1.05, "better": "lower"}
    return Result(**(values | {"unit": "ms", "self_ratio": 1.0} | changes))


def test_the_sides_take_turns_after_the_warm_up() -> None:
    calls: list[str] = []
    rounds = compare(lambda: calls.append("ours"), lambda: calls.append("reference"), Rounds(least=4, most=4), warmup=1)
    assert calls[2:8] == ["ours", "reference", "reference", "ours", "ours", "reference"]
    assert calls.count("ours") == calls.count("reference") == 5
    assert len(rounds) == 4


def test_a_call_is_timed() -> None:
    assert 0.02 <= seconds(lambda: time.sleep(0.02)) < 20


def test_the_fastest_rounds_count() -> None:
    rounds = Rounds(least=4, most=8)
    for ours, reference in [(3.0, 2.0), (1.5, 2.5), (9.0, 2.04), (1.6, 2.02)]:
        assert not rounds.enough
        rounds.add(ours, reference)
    assert (rounds.ours, rounds.reference) == (1.5, 2.0)
    assert rounds.self_ratio == pytest.approx(2.02 / 2.0)
    assert rounds.enough


def test_a_machine_that_disagrees_with_itself_is_measured_longer_but_not_for_ever() -> None:
    rounds = Rounds(least=4, most=8)
    for _ in range(4):
        assert not rounds.enough
        rounds.add(1.0, 2.0)
        rounds.add(1.0, 3.0)
    assert rounds.self_ratio == 1.5
    assert rounds.enough


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"ratio": 1.05}, True),
        ({"ratio": 1.06}, False),
        ({"ratio": 3.5, "goal": 3.5, "better": "higher"}, True),
        ({"ratio": 3.4, "goal": 3.5, "better": "higher"}, False),
        ({"self_ratio": 1.2}, False),
    ],
)
def test_a_goal_holds_on_its_side_and_on_a_quiet_machine(changes: dict, holds: bool) -> None:
    result = _result(**changes)
    assert result.holds is holds
    assert result.to_json()["holds"] is holds
    assert ("holds" in str(result)) is holds


def test_the_row_has_the_fields_of_the_results_file() -> None:
    assert set(_result().to_json()) >= {"name", "ours", "reference", "ratio", "goal", "better", "holds"}

"""The benchmarks' own ruler."""

import time

import pytest

from performance.timing import Comparison, Result, compare


def _result(**changes: object) -> Result:
    values: dict = {"name": "step", "ours": 1.0, "reference": 1.0, "ratio": 1.0, "goal": 1.05, "better": "lower"}
    return Result(**(values | {"unit": "ms", "self_ratio": 1.0} | changes))


def test_the_slower_side_is_seen_and_rounds_alternate() -> None:
    calls: list[str] = []

    def ours() -> None:
        calls.append("ours")
        time.sleep(0.004)

    def reference() -> None:
        calls.append("reference")
        time.sleep(0.002)

    outcome = compare(ours, reference, rounds=4, most=4, warmup=1)
    assert calls[2:8] == ["ours", "reference", "reference", "ours", "ours", "reference"]
    assert calls.count("ours") == calls.count("reference") == 5
    assert 1.2 < outcome.ours / outcome.reference < 3


def test_a_machine_that_disagrees_with_itself_is_measured_longer_but_not_for_ever() -> None:
    pauses = iter([0.001, 0.005] * 6)
    outcome = compare(lambda: None, lambda: time.sleep(next(pauses)), rounds=4, most=12, warmup=0)
    assert isinstance(outcome, Comparison)
    assert outcome.self_ratio > 1.5
    assert next(pauses, None) is None


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

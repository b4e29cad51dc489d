"""The short form of ``make faults``: a few faults of every kind, on the real commands."""

import time

import pytest

from performance.faults import start
from performance.faults.bench import Bad, Bench, refused, succeeded
from performance.faults.fault import Fault
from performance.faults.start import Ended
from performance.faults.tried import chosen, warmed_bench

SHORT = chosen(short=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return warmed_bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.injected)
def test_a_fault_is_one_line_and_costs_nothing(bench: Bench, fault: Fault) -> None:
    tried = fault.tried(bench)
    assert tried.verdict == "ok", tried.happened


def test_names_of_faults_are_their_own() -> None:
    names = [fault.injected for fault in chosen()]
    assert len(set(names)) == len(names) > 3 * len(SHORT)
    assert {fault.module for fault in SHORT} == {fault.module for fault in chosen()}, "a few of every kind"


def ended(code: int, err: str) -> Ended:
    return Ended(code, out="", err=err, seconds=0.0, cpu_seconds=0.0, grown_bytes=0)


@pytest.mark.parametrize(
    ("code", "err"),
    [
        (0, "error: it is full"),
        (1, "error: it is full"),
        (2, ""),
        (2, "it is full"),
        (2, "error: something else"),
        (2, "Traceback (most recent call last):\nerror: it is full"),
    ],
)
def test_what_is_no_refusal_counts_as_silent(code: int, err: str) -> None:
    assert refused(ended(2, "warning\nerror: it is full\n"), "full") == "it is full"
    with pytest.raises(Bad) as bad:
        refused(ended(code, err), "full")
    assert bad.value.verdict == "silent"
    with pytest.raises(Bad):
        succeeded(ended(2, err))


def test_each_breach_has_its_verdict(bench: Bench) -> None:
    def executes(bench: Bench) -> str:
        exec(bench.hostile_code())
        return "all is well"

    def loses(bench: Bench) -> str:
        raise Bad("lost", "the work of a day")

    def hangs(bench: Bench) -> str:
        return bench.start("time", ["1"], before=lambda: time.sleep(1000)).end().out

    assert Fault("", executes, True).tried(bench).verdict == "executed"
    assert Fault("", loses, True).tried(bench).verdict == "lost"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "LIMIT", 0.5)
        assert Fault("", hangs, True).tried(bench).verdict == "hang"

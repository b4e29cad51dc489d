"""What a fault is, and how one is tried."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from performance.faults.bench import CANARY, Bad, Bench
from performance.faults.start import Hang

Try = Callable[[Bench], str]
FAULTS: list["Fault"] = []
"""Every fault, in the order of the modules that hold them."""


@dataclass(frozen=True)
class Tried:
    """A row of the table. ``verdict`` is hang, lost, executed, silent or ok."""

    injected: str
    happened: str
    seconds: float
    verdict: str


@dataclass(frozen=True)
class Fault:
    """``inject`` tries it and returns in words what happened; it raises where that must not happen."""

    injected: str
    inject: Try
    short: bool

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.inject.__module__.rpartition(".")[2]

    def tried(self, bench: Bench) -> Tried:
        """Try it. A hang and each breach of a promise become a verdict."""
        start = time.monotonic()
        verdict = "ok"
        try:
            happened = self.inject(bench)
        except Hang as hang:
            happened, verdict = str(hang), "hang"
        except Bad as bad:
            happened, verdict = str(bad), bad.verdict
        except Exception as error:  # what was to be compared is not there
            happened, verdict = f"{type(error).__name__}: {error}", "lost"
        canary = bench.root / CANARY
        if canary.exists():
            canary.unlink()
            verdict = "executed"
        return Tried(self.injected, happened, time.monotonic() - start, verdict)


def a_fault(injected: str, short: bool = False) -> Callable[[Try], Try]:
    """Add a function to :data:`FAULTS`; ``short`` puts it into the short form, which tests run."""

    def add(inject: Try) -> Try:
        FAULTS.append(Fault(injected, inject, short))
        return inject

    return add

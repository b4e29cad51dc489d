"""Time two ways of doing the same work side by side, and say honestly what came out."""

import gc
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

AA_TOLERANCE = 0.05
"""How far the ratio of the reference to itself may lie from 1 before a run says nothing."""


@dataclass(frozen=True)
class Comparison:
    """Seconds of one round of each side, from rounds that alternated."""

    ours: float
    """Fastest round of ours."""
    reference: float
    """Fastest round of the reference."""
    self_ratio: float
    """Fastest of the reference's odd rounds over fastest of its even ones: 1 on a machine quiet enough to measure."""


@dataclass(frozen=True)
class Result:
    """One benchmark's outcome. ``ours`` and ``reference`` are in ``unit``."""

    name: str
    ours: float
    reference: float
    ratio: float
    """What the goal is about; the benchmark's docstring says which quotient it is."""
    goal: float
    better: str
    """``lower``: the goal is an upper bound. ``higher``: it is a lower bound."""
    unit: str
    self_ratio: float

    @property
    def holds(self) -> bool:
        """Whether the ratio meets the goal, judged on a machine that was quiet enough."""
        met = self.ratio <= self.goal if self.better == "lower" else self.ratio >= self.goal
        return met and self.quiet

    @property
    def quiet(self) -> bool:
        """Whether the reference agreed with itself within ``AA_TOLERANCE``."""
        return abs(self.self_ratio - 1) <= AA_TOLERANCE

    def to_json(self) -> dict[str, object]:
        """The row of ``performance/results.json``."""
        row = {name: getattr(self, name) for name in ("name", "ours", "reference", "ratio", "goal", "better", "holds")}
        return row | {"unit": self.unit, "self_ratio": self.self_ratio}

    def __str__(self) -> str:
        sign = "<=" if self.better == "lower" else ">="
        verdict = "holds" if self.holds else "FAILS" if self.quiet else "NOISY"
        return (
            f"{self.name:<34} {self.ours:10.3f} {self.reference:10.3f} {self.unit:<12} "
            f"ratio {self.ratio:6.3f} (goal {sign} {self.goal:.2f})  A/A {self.self_ratio:.3f}  {verdict}"
        )


def compare(
    ours: Callable[[], object], reference: Callable[[], object], rounds: int = 14, most: int = 42, warmup: int = 2
) -> Comparison:
    """Alternate one round of each side and take the fastest of each.

    Rounds alternate so that a slow phase of the machine hits both sides, and the minimum is taken because noise only
    adds. ``rounds`` of at least 14 leave 7 in each half of the reference; while the halves disagree more rounds follow,
    ``most`` at the most.
    """
    for _ in range(warmup):
        ours()
        reference()
    mine: list[float] = []
    theirs: list[float] = []
    gc.collect()
    gc.disable()
    try:
        while len(mine) < most:
            if len(mine) % 2 == 0:
                mine.append(_seconds(ours))
                theirs.append(_seconds(reference))
            else:
                theirs.append(_seconds(reference))
                mine.append(_seconds(ours))
            self_ratio = min(theirs[1::2], default=0.0) / min(theirs[::2])
            if len(mine) >= rounds and abs(self_ratio - 1) <= AA_TOLERANCE:
                break
    finally:
        gc.enable()
    return Comparison(min(mine), min(theirs), self_ratio)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine() -> str:
    """Processor, threads and versions, as printed above the results."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "lightning", "diffusers"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    threads = (
        f"{torch.get_num_threads()} of {os.cpu_count()} threads, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')}"
    )
    return f"{device}; {threads}; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

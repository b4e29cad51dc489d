"""Time two ways of doing the same work side by side, and say whether the machine was quiet enough to tell."""

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


class Rounds:
    """Seconds of rounds that alternated between ours and the reference, of the same amount of work each.

    Rounds alternate, so that a slow phase of the machine hits both sides. The fastest one counts, because noise only
    adds. After ``least`` rounds, more follow while the two halves of the reference disagree, up to ``most`` in all.
    """

    def __init__(self, least: int = 14, most: int = 42) -> None:
        self.least = least
        self.most = most
        self._ours: list[float] = []
        self._reference: list[float] = []

    def __len__(self) -> int:
        return len(self._ours)

    def add(self, ours: float, reference: float) -> None:
        """Take in one round of each side, in seconds."""
        self._ours.append(ours)
        self._reference.append(reference)

    @property
    def enough(self) -> bool:
        """Whether no further round is needed."""
        quiet = abs(self.self_ratio - 1) <= AA_TOLERANCE
        return len(self) >= self.most or (len(self) >= self.least and quiet)

    @property
    def ours(self) -> float:
        """Fastest round of ours."""
        return min(self._ours)

    @property
    def reference(self) -> float:
        """Fastest round of the reference."""
        return min(self._reference)

    @property
    def self_ratio(self) -> float:
        """Fastest of the reference's odd rounds over fastest of its even ones: 1 on a quiet machine."""
        return min(self._reference[1::2], default=0.0) / min(self._reference[::2], default=1.0)


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
    ours: Callable[[], object], reference: Callable[[], object], rounds: Rounds | None = None, warmup: int = 2
) -> Rounds:
    """Alternate the two until ``rounds`` has enough, after ``warmup`` calls of each that do not count."""
    rounds = Rounds() if rounds is None else rounds
    for _ in range(warmup):
        ours()
        reference()
    gc.collect()
    gc.disable()
    try:
        while not rounds.enough:
            if len(rounds) % 2 == 0:
                mine = seconds(ours)
                rounds.add(mine, seconds(reference))
            else:
                theirs = seconds(reference)
                rounds.add(seconds(ours), theirs)
    finally:
        gc.enable()
    return rounds


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes, the device's work included."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine() -> str:
    """Processor, threads and versions, as printed above the results."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "lightning", "diffusers"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    threads = (
        f"{torch.get_num_threads()} of {os.cpu_count()} threads, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')}"
    )
    return f"{device}; {threads}; Python {platform.python_version()}, {versions}"


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

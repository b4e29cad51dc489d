"""Time, arithmetic and memory of a step, on a GPU; and what is counted of it, anywhere."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from networks.backbone import Backbone
from performance.accelerator.counts import Step, casts, encodes, flops, graph_breaks, waits
from performance.timing import processor

PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A10": 125.0}
"""TFLOP/s of dense matrix products in bfloat16, as the maker states them, by a part of the device's name."""
Figures = dict[str, float]


@dataclass(frozen=True)
class Machine:
    """Where it is measured. ``timed`` says whether times mean something: on a GPU, or where all is thin."""

    device: torch.device
    timed: bool
    seconds: float = 5.0
    """How long one side of a row is timed."""
    dtype: torch.dtype | None = torch.bfloat16
    """What autocast computes in; ``None`` is float32 throughout."""

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return torch.cuda.get_device_name() if self.device.type == "cuda" else processor()

    @property
    def peak(self) -> float | None:
        """TFLOP/s at most, where they are known."""
        return next((peak for name, peak in PEAKS.items() if name in self.name), None)

    def autocast(self) -> torch.autocast:
        """The context that a step computes its loss in."""
        return torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measured(
    machine: Machine,
    step: Step,
    images: int,
    frozen: nn.Module,
    backbone: Backbone,
    encoder: nn.Module | None = None,
    compiled: bool = False,
    plain: bool = False,
) -> Figures:
    """What a ``step`` of that many images costs and does; ``frozen`` are the weights that should never be cast.

    Of compiled blocks casts, FLOPs and graphs cannot be counted from outside: the row that is not compiled has them. A
    ``plain`` loop compiles nothing, so it has no graphs.
    """
    step()
    found: Figures = dict(waits(step, machine.device))
    found["encodes"] = encodes(step, backbone, encoder)
    if not compiled:
        found["casts"] = casts(step, frozen)
    if not compiled and not plain:
        found["graph_breaks"] = graph_breaks(step, backbone.unet)
    if machine.timed:
        found |= timed(machine, step, images)
        if not compiled:
            found["tflops"] = flops(step) / 1e9 / found["ms"]
            if machine.peak:
                found["share_of_peak"] = found["tflops"] / machine.peak
    return found


def timed(machine: Machine, step: Step, images: int) -> Figures:
    """Median milliseconds of a step, images a second, and the most memory that was taken."""
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        step()
    machine.synchronize()
    times: list[float] = []
    until = time.perf_counter() + machine.seconds
    while len(times) < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        for _ in range(2):
            step()
        machine.synchronize()
        times.append((time.perf_counter() - start) / 2)
    ms = 1000 * statistics.median(times)
    found = {"ms": ms, "images_per_second": 1000 * images / ms, "batch": float(images)}
    if machine.device.type == "cuda":
        found["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def largest(machine: Machine, make: Callable[[int], Step], first: int = 16, most: int = 256) -> int:
    """The batch size with the most images a second: doubled until it does not fit, or gains less than 3 %."""
    best, rate, size, held = first, 0.0, first, list[Step]()
    while size <= most:
        try:
            held = [make(size)]
            held[0]()
            machine.synchronize()
            start = time.perf_counter()
            for _ in range(2):
                held[0]()
            machine.synchronize()
            found = 2 * size / (time.perf_counter() - start)
        except torch.OutOfMemoryError:
            break
        finally:
            held.clear()
            free()
        if found < 1.03 * rate:
            break
        best, rate, size = size, found, 2 * size
    return best


def free() -> None:
    """Give back what nobody holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def freed() -> Iterator[None]:
    """:func:`free` after the block, also where it failed."""
    try:
        yield
    finally:
        free()

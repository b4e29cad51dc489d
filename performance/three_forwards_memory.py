"""Peak memory of PIDiff's three-forward step against a step of one forward: ours / reference.

The targets hold no graph, so what backward needs is the same for both and the peak may differ by a few activations.
"""

import os
from collections.abc import Callable

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would announce itself between the rows

import torch
from torch.profiler import ProfilerActivity, profile

from performance.three_forwards import steps
from performance.timing import Result, Rounds

GOAL = 1.1


def measure(rounds: Rounds | None = None) -> Result:
    """MB above what is held between steps. A count of bytes needs no rounds; two runs of the reference must agree."""
    three, one = steps()
    ours = peak_bytes(three)
    reference = peak_bytes(one)
    again = peak_bytes(one)
    ratio = ours / reference
    return Result(
        "three forwards, peak memory", ours / 1e6, reference / 1e6, ratio, GOAL, "lower", "MB", again / reference
    )


def peak_bytes(work: Callable[[], object]) -> int:
    """How many more bytes of tensors than before are held at once while ``work`` runs."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = peak = 0
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak

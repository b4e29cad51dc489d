"""Peak memory of a stretch of work in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PEAK = "VmHWM:"


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """What is yielded tells the peak in bytes since the beginning: allocated on a GPU, else resident memory of the
    whole process; ``None`` where the system keeps no such count, or does not let it begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    try:
        _RESET.write_text("5")  # else it would be the peak of everything that the process has done before
    except OSError:
        yield lambda: None
        return
    yield _resident


def _resident() -> int | None:
    found = (line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith(_PEAK))
    return next((int(kilobytes) * 1024 for kilobytes in found), None)

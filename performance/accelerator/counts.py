"""What a step does besides arithmetic: casts of weights, waits for the device, graphs that break, encoders that run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from networks.backbone import Backbone

Step = Callable[[], object]
_WAITS = {"cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy"}
"""The runtime's calls in which the processor waits for a GPU."""
_WOULD_WAIT = {"aten::_local_scalar_dense", "aten::nonzero"}
"""Operators that wait for a GPU where there is one: a number or a size is asked for."""


class Casts(TorchDispatchMode):
    """Counts the casts of each of ``weights`` to another type."""

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.storages = {weight.untyped_storage().data_ptr() for weight in weights}
        self.counted = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        aten = torch.ops.aten
        # Without autograd the outer operator is seen, which is there also where nothing is cast.
        if func is aten._to_copy.default or (func is aten.to.dtype and args[0].dtype != args[1]):
            self.counted += args[0].untyped_storage().data_ptr() in self.storages
        return func(*args, **(kwargs or {}))


def casts(step: Step, frozen: nn.Module) -> int:
    """Casts of frozen weights in a step."""
    with Casts(p for p in frozen.parameters() if not p.requires_grad) as counter:
        step()
    return counter.counted


def flops(step: Step) -> int:
    """Floating-point operations of a step, backward pass included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def encodes(step: Step, backbone: Backbone, images: nn.Module | None = None) -> int:
    """How often a frozen encoder runs in a step: the autoencoder's, the text's, an image's."""
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    parts = [backbone.vae.encoder, *backbone.text.encoders, *([images] if images is not None else [])]
    handles = [part.register_forward_pre_hook(count) for part in parts]
    try:
        step()
    finally:
        for handle in handles:
            handle.remove()
    return counted


def graph_breaks(step: Step, unet: nn.Module) -> int:
    """Places where a graph of the UNet's repeated blocks would be left, if they were compiled. They are not compiled
    afterwards."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    kinds = set(unet._repeated_blocks)  # type: ignore[arg-type]
    blocks = [module for module in unet.modules() if type(module).__name__ in kinds]
    for block in blocks:
        block.compile(backend="eager", dynamic=False)
    try:
        with torch._dynamo.config.patch(recompile_limit=64):
            step()
        return sum(counters["graph_break"].values())
    finally:
        for block in blocks:
            block._compiled_call_impl = None
        torch._dynamo.reset()


def waits(step: Step, device: torch.device) -> dict[str, float]:
    """``syncs`` a step, and on a GPU the share of the time in which it is ``idle``."""
    steps = 3 if device.type == "cuda" else 1  # idle time is that between kernels, also of two steps
    with _profiled(device) as found:
        for _ in range(steps):
            step()
    names = _WAITS if device.type == "cuda" else _WOULD_WAIT
    counted: dict[str, float] = {"syncs": sum(e.name in names and not _of_optimiser(e) for e in found) / steps}
    kernels = sorted(
        (e.time_range.start, e.time_range.end) for e in found if e.device_type == DeviceType.CUDA and e.time_range.end
    )
    if kernels:
        busy, until = 0.0, kernels[0][0]
        for start, end in kernels:
            busy += max(0.0, end - max(start, until))
            until = max(until, end)
        counted["idle"] = 1 - busy / (until - kernels[0][0])
    return counted


def _of_optimiser(event: Any) -> bool:
    """Whether an optimiser asks for a number: AdamW's own count of steps, which lies on the CPU on every machine."""
    while event is not None:
        if event.name.startswith("Optimizer.step") and event.device_type == DeviceType.CPU:
            return True
        event = event.cpu_parent
    return False


@contextmanager
def _profiled(device: torch.device) -> Iterator[list[Any]]:
    events: list[Any] = []
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=kinds) as profiler:
        yield events
        if device.type == "cuda":
            torch.cuda.synchronize()
    events.extend(profiler.events() or [])

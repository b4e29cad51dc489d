"""The same program in any number of processes: Lightning starts them, and they fail together."""

import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
import torch.distributed
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from contracts.errors import LikenessError
from leaderboard.settings import ProcessSettings

T = TypeVar("T")


def launch(settings: ProcessSettings, work: Callable[[Fabric], T]) -> T:
    """Run ``work`` once in every process; where torchrun started them, its numbers hold and not those of ``settings``.

    Returns:
        What it returned in the first process, or in this one where torchrun started it.

    Raises:
        LikenessError: some process raised it; its message is that of the first one.
    """
    devices, nodes = settings.devices, settings.num_nodes
    if TorchElasticEnvironment.detect():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=devices,
        strategy=_strategy(settings),
        num_nodes=nodes,
        precision=settings.precision,  # type: ignore[arg-type]
    )
    result, message = fabric.launch(partial(_guarded, work=work))
    if message is not None:
        raise LikenessError(message)
    return result


def _guarded(fabric: Fabric, work: Callable[[Fabric], T]) -> tuple[T | None, str | None]:
    """The result, or the message of a ``LikenessError``, which would reach the parent wrapped in a traceback."""
    try:
        return work(fabric), None
    except LikenessError as error:
        return None, str(error)


def together(fabric: Fabric, step: Callable[[], T]) -> T:
    """Run ``step`` in every process and wait for all; a ``LikenessError`` in one is raised in every one.

    ``step`` must not communicate itself. A process with nothing to do calls this all the same.
    """
    result, message = None, None
    try:
        result = step()
    except LikenessError as error:
        message = str(error)
    messages: list[str | None] = [None] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(messages, message)
    else:
        messages = [message]
    for found in messages:
        if found is not None:
            raise LikenessError(found)
    return result  # type: ignore[return-value]


def on_first(fabric: Fabric, step: Callable[[], None]) -> None:
    """Run ``step`` in the first process only, while the others wait."""
    together(fabric, step if fabric.global_rank == 0 else lambda: None)


def _strategy(settings: ProcessSettings) -> str:
    """Forked processes on a CPU: they start at once, where a new interpreter takes seconds to import torch."""
    outside = TorchElasticEnvironment.detect() or SLURMEnvironment.detect() or "LOCAL_RANK" in os.environ
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())
    several = str(settings.devices) not in {"1", "auto"}
    if settings.strategy == "auto" and on_cpu and several and not outside:
        return "ddp_fork"
    return settings.strategy

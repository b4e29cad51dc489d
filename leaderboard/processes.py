"""The same program in any number of processes: Lightning starts them, and they fail together."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from threading import RLock
from typing import TypeVar

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.multiprocessing import ProcessRaisedException
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.launcher import launched_group
from contracts.method_modules import import_methods, named_methods
from contracts.roll_call import SilentRank, names_the_silent, say_who_i_am
from contracts.settings import ProcessSettings
from datamodules import processes
from networks.precision import TF32, generating_precision

T = TypeVar("T")


def launch(settings: ProcessSettings, work: Callable[[Fabric], T], option: str = "--trainer") -> T:
    """Run ``work`` once in every process; where torchrun or SLURM started them, their numbers hold and not those of
    ``settings``.

    Args:
        option: The option that ``settings`` are given by, for errors.

    Returns:
        What it returned in the first process, or in this one where torchrun or SLURM started it.

    Raises:
        LikenessError: some process raised it; its message is that of the first one.
    """
    group = launched_group()
    precision = generating_precision(settings.precision, settings.accelerator)
    devices, nodes = (settings.devices, settings.num_nodes) if group is None else (group.devices, group.nodes)
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=devices,
            strategy=_strategy(settings),
            num_nodes=nodes,
            precision="32-true" if precision == TF32 else precision,  # type: ignore[arg-type]
        )
    except (MisconfigurationException, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise LikenessError(f"{option}: {' '.join(str(error).split())}") from error
    if hasattr(fabric.strategy, "_timeout"):  # those that have a group of processes
        fabric.strategy._timeout = timedelta(seconds=settings.timeout)
    guarded = partial(_guarded, work=work, methods=named_methods(), timeout=settings.timeout)
    try:
        result, message = fabric.launch(guarded)
    except ProcessRaisedException as error:
        _, silent, message = str(error).rpartition(f"{SilentRank.__module__}.{SilentRank.__name__}: ")
        if not silent:
            raise
        raise LikenessError(message.strip()) from None
    if message is not None:
        raise LikenessError(message)
    return result


def _guarded(
    fabric: Fabric, work: Callable[[Fabric], T], methods: Sequence[str], timeout: float
) -> tuple[T | None, str | None]:
    """The result, or the message of a ``LikenessError``, which would reach the parent wrapped in a traceback. Only that
    a process does not answer is raised: the parent must not wait for all of them then."""
    # tqdm's own lock is shared over a fork and stays taken for ever when a process is killed that holds it.
    tqdm.set_lock(RLock())
    try:
        import_methods(methods)  # a process that was not forked knows nothing of them
        say_who_i_am(fabric.world_size)
        with names_the_silent(fabric.global_rank, fabric.world_size, timeout):
            return work(fabric), None
    except SilentRank:
        raise
    except LikenessError as error:
        return None, str(error)


def together(fabric: Fabric, step: Callable[[], T]) -> T:
    """:func:`datamodules.processes.together` in every process of ``fabric``."""
    return processes.together(fabric.world_size, step)


def on_first(fabric: Fabric, step: Callable[[], None]) -> None:
    """Run ``step`` in the first process only, while the others wait."""
    together(fabric, step if fabric.global_rank == 0 else lambda: None)


def _strategy(settings: ProcessSettings) -> str:
    """Forked processes on a CPU: they start at once, where a new interpreter takes seconds to import torch."""
    outside = launched_group() is not None or "LOCAL_RANK" in os.environ
    on_cpu = settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())
    several = str(settings.devices) not in {"1", "auto"}
    if settings.strategy == "auto" and on_cpu and several and not outside:
        return "ddp_fork"
    return settings.strategy

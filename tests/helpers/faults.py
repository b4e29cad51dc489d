"""What machines and users do to a run."""

import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch


def fault(callback: str, /, **settings: object) -> list[str]:
    """What ``train.main`` must be told to add a ``callback`` of this module."""
    given = [f"--trainer.callbacks.{key}={value}" for key, value in settings.items()]
    return [f"--methods={__name__}", f"--trainer.callbacks+={__name__}.{callback}", *given]


class Signal(L.Callback):
    """Sends this process a signal by name as the step begins after which ``step`` steps are done; with ``rank`` only
    the process of that rank, and with ``parent`` the one that started this one. With ``validation`` it is sent in the
    validation after that step."""

    def __init__(
        self, name: str, step: int, rank: int | None = None, parent: bool = False, validation: bool = False
    ) -> None:
        self.signal = signal.Signals[name]
        self.step = step
        self.rank = rank
        self.parent = parent
        self.validation = validation

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if not self.validation and trainer.global_step == self.step - 1:
            self._send(trainer)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: object, batch: object, number: int, *_: object
    ) -> None:
        if self.validation and trainer.global_step == self.step and number == 0:
            self._send(trainer)

    def _send(self, trainer: L.Trainer) -> None:
        if self.rank in (None, trainer.global_rank):
            os.kill(os.getppid() if self.parent else os.getpid(), self.signal)


class Worker(L.Callback):
    """Kills the loader processes as the step begins after which ``step`` steps are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step - 1:
            for child in multiprocessing.active_children():
                if child.daemon and child.pid is not None:
                    os.kill(child.pid, signal.SIGKILL)


class Poison(L.Callback):
    """Makes one trained weight NaN when ``step`` steps are done, so that the next loss is NaN."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                for parameter in pl_module.parameters():
                    if parameter.requires_grad:
                        parameter.fill_(torch.nan)


class Thaw(L.Callback):
    """Changes one frozen weight of the backbone when ``step`` steps are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.backbone.unet.conv_in.bias[0] += 1e-3  # type: ignore[union-attr,index]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """New files lack the permissions in ``mask``."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing a file beyond ``size`` bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

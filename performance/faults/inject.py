"""What machines and users do to a run: callbacks of ``train.py``, and limits of a process."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from contracts.batch import FaceBatch, FactorBatch
from lightning_modules.base import PersonalisationModule


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
    """Makes the trained weights NaN when ``step`` steps are done, so that the next loss is NaN; with ``rank`` only
    those of the process of that rank."""

    def __init__(self, step: int, rank: int | None = None) -> None:
        self.step = step
        self.rank = rank

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if trainer.global_step == self.step and self.rank in (None, trainer.global_rank):
            with torch.no_grad():
                for parameter in pl_module.parameters():
                    if parameter.requires_grad:
                        parameter.fill_(torch.nan)


class Thaw(L.Callback):
    """Changes one frozen weight of the backbone when ``step`` steps are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: PersonalisationModule, *_: object) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.backbone.unet.conv_in.bias[0] += 1e-3


class SampleIds(L.Callback):
    """Appends a line with step and sample ids to ``place.RANK`` as each batch begins."""

    def __init__(self, place: str) -> None:
        self.place = place

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, number: int) -> None:
        line = json.dumps([f"{trainer.global_step}, batch {number}", list(batch.sample_ids)]) + "\n"
        handle = os.open(f"{self.place}.{trainer.global_rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(handle, line.encode())  # at once: a killed process leaves no half of a line
        os.close(handle)


class Phases(L.Callback):
    """Appends a letter to the file ``place`` as each phase of the first process begins: ``f`` a step of the first
    stage, ``s`` a step, ``c`` a checkpoint, ``v`` a validation."""

    def __init__(self, place: str) -> None:
        self.place = place

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, number: int) -> None:
        self._note(trainer, "f" if isinstance(batch, FactorBatch | FaceBatch) else "s")

    def on_save_checkpoint(self, trainer: L.Trainer, *_: object) -> None:
        self._note(trainer, "c")

    def on_validation_start(self, trainer: L.Trainer, *_: object) -> None:
        self._note(trainer, "v")

    def _note(self, trainer: L.Trainer, letter: str) -> None:
        if trainer.is_global_zero:
            handle = os.open(self.place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(handle, letter.encode())
            os.close(handle)


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
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit_files(size)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_files(size: int) -> None:
    """The same for the rest of this process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

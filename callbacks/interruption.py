"""A run that is told to end does so after a whole step, on every process the same one."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.exceptions import SIGTERMException

from contracts.errors import SAVED

EVERY = 10
"""Steps between two comparisons of notes: each one makes the processor wait for the GPU."""


class Interruption(L.Callback):
    """Ends training after SIGTERM, Ctrl-C, or ``max_time`` since this start began to train.

    Lightning's handler calls a collective from inside of the signal, which never returns when several processes are
    told at their own moments, as schedulers do; ours only takes a note. One process looks at it after each step.
    Several compare notes after each of the first :data:`EVERY` steps of a run, and then once in so many. A second
    Ctrl-C ends the process at once.
    """

    def __init__(self, max_time: str | timedelta | dict[str, int] | None = None) -> None:
        self._seconds = Timer(duration=max_time)._duration
        self._told = False
        self.began = False
        """Whether training began in this process; before that there is no state to save."""

    def listen(self) -> None:
        """Take the place of Lightning's handlers, which puts the former ones back at the end of the run."""
        self.began = True
        self._start = time.monotonic()
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
            signal.signal(signal.SIGTERM, self._take_note)
            signal.signal(signal.SIGINT, self._take_note)

    def _take_note(self, number: int, _: object) -> None:
        self._told = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Collective where notes are compared."""
        step = trainer.global_step
        if trainer.fit_loop._should_accumulate():  # no half of a gradient can be saved
            return
        if trainer.world_size > 1 and step > EVERY and step % EVERY:
            return
        if trainer.strategy.reduce_boolean_decision(self._told or self._is_over(), all=False):
            trainer._signal_connector.received_sigterm = True  # what Lightning looks at once the step is whole

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Each process by itself, as some have more batches: the state of this step was saved before its validation,
        so nothing is left that they would do together."""
        if self._told or (trainer.world_size == 1 and self.began and self._is_over()):
            raise SIGTERMException

    def _is_over(self) -> bool:
        return self._seconds is not None and time.monotonic() - self._start >= self._seconds


@contextmanager
def ends_when_told(trainer: L.Trainer) -> Iterator[None]:
    """Around ``trainer.fit``: a process that is told to end passes it on to those it started.

    Of forked processes the first one only waits for the others, and would leave them behind. Before training begins
    there is nothing to save, and the process ends at once with :class:`SIGTERMException`.
    """
    first = os.getpid()

    def told(number: int, _: object) -> None:
        launcher = trainer.strategy.launcher
        if os.getpid() == first and isinstance(launcher, _MultiProcessingLauncher) and launcher.procs:
            launcher.kill(signal.SIGTERM)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SIGTERMException(SAVED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except (SIGTERMException, KeyboardInterrupt):
        if trainer.strategy.launcher is not None and os.getpid() == first:
            trainer.strategy.launcher.kill(signal.SIGTERM)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

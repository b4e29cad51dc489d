"""What stops a run before it does harm, and what it shows while it runs."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from contracts.batch import FactorBatch, SubjectBatch
from contracts.errors import LikenessError


class FiniteLoss(L.Callback):
    """Stops when a loss on any process, or a trained weight, is NaN or infinite.

    It looks every ``every`` steps, because looking makes the processor wait for the GPU, and always right before a
    checkpoint would be written and when training ends, so what a bad step left never replaces a good checkpoint
    and never becomes an adapter.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self._bad: Tensor | None = None

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        bad = (~torch.isfinite(loss.detach())).float()
        self._bad = bad if self._bad is None else torch.maximum(self._bad, bad)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            self.check(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict) -> None:
        self.check(trainer)
        self.check_weights(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.check(trainer)
        self.check_weights(trainer, pl_module)

    def check_weights(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raises :class:`LikenessError` naming a trained weight that is not finite.

        After a finite loss the gradient, and with it the step, may still have been infinite.
        """
        for name, weight in pl_module.named_parameters():
            if weight.requires_grad and not bool(torch.isfinite(weight.detach()).all()):
                raise LikenessError(
                    f"the weight {name} became NaN or infinite before step {trainer.global_step}; the last checkpoint "
                    "is unharmed: train again with a lower model.learning_rate and another --output, or look at the "
                    "batches since then"
                )

    def check(self, trainer: L.Trainer) -> None:
        """Collective. Raises :class:`LikenessError` on every process when one of them saw a bad loss."""
        if self._bad is None:
            return
        worst = trainer.strategy.reduce(self._bad, reduce_op="max")
        self._bad = None
        if float(worst) > 0:
            raise LikenessError(
                f"the loss became NaN or infinite before step {trainer.global_step}; the last checkpoint is unharmed: "
                "train again with a lower model.learning_rate and another --output, or look at the batches since then"
            )


class SaveOnSigterm(L.Callback):
    """Ends a run that is told to (SIGTERM) after a whole step, the same one on every process, and saves
    ``interrupted.ckpt``.

    Lightning's handler calls a collective from inside of the signal, which never returns when several processes are
    told at their own moments, as schedulers do; ours only takes a note, and processes compare notes after each step.
    """

    def __init__(self, folder: str) -> None:
        self.file = Path(folder) / "interrupted.ckpt"
        self._told = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the place of Lightning's handler, which puts the former one back at the end of the run."""
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
            signal.signal(signal.SIGTERM, self._take_note)

    def _take_note(self, *_: object) -> None:
        self._told = True

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Collective."""
        told = trainer.strategy.reduce_boolean_decision(self._told, all=False)
        if told and not trainer.fit_loop._should_accumulate():  # half of an accumulated gradient cannot be saved
            trainer._signal_connector.received_sigterm = True  # what Lightning looks at once the step is whole

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.file)


class Throughput(L.Callback):
    """Logs ``images_per_second`` over all processes since the last log, without waiting for the GPU in between."""

    def __init__(self) -> None:
        self._since, self._images = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(batch, SubjectBatch):  # processes may have unequal shares of a group
            self._images += len(batch.group)
        else:  # every process gets the whole of a batch for the experts, and an equal share of any other
            self._images += len(batch.sample_ids) * (1 if isinstance(batch, FactorBatch) else trainer.world_size)
        if (trainer.global_step % trainer.log_every_n_steps) == 0:  # type: ignore[attr-defined]
            now = time.monotonic()
            rate = self._images / max(1e-9, now - self._since)
            pl_module.log("images_per_second", rate, prog_bar=True, rank_zero_only=True)
            self._since, self._images = now, 0

"""What a run shows of itself: rates, gradient norm and memory in the logs, and a progress bar that counts steps."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from torch import nn

from callbacks.run_folder import peak_memory
from callbacks.trainer import Trainer
from contracts.batch import FactorBatch, SubjectBatch
from lightning_modules.base import PersonalisationModule


class Telemetry(L.Callback):
    """Logs, where the trainer logs, and without waiting for the GPU in between:

    ``images_per_second`` over all processes since the last log, ``train/gradient_norm`` over everything that is
    trained, before clipping, and ``peak_memory_gb`` of the first process.
    """

    def __init__(self) -> None:
        self._since, self._images = time.monotonic(), 0

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: PersonalisationModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if pl_module.logs_next_step():
            held = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            pl_module.log("train/gradient_norm", nn.utils.get_total_norm(held), rank_zero_only=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(batch, SubjectBatch):  # processes may have unequal shares of a group
            self._images += len(batch.group)
        else:  # every process gets the whole of a batch for the experts, and an equal share of any other
            self._images += len(batch.sample_ids) * (1 if isinstance(batch, FactorBatch) else trainer.world_size)
        every = trainer.log_every_n_steps
        if trainer.fit_loop._should_accumulate():
            return
        if every > 0 and trainer.global_step % every == 0:
            now = time.monotonic()
            rate = self._images / max(1e-9, now - self._since)
            pl_module.log("images_per_second", rate, prog_bar=True, rank_zero_only=True)
            pl_module.log("peak_memory_gb", peak_memory(pl_module.device) / 1e9, rank_zero_only=True)
            self._since, self._images = now, 0


class StepBar(TQDMProgressBar):
    """A bar over the steps of the whole run where their number is given, with short names of what was measured."""

    def init_train_tqdm(self) -> Tqdm:
        bar = super().init_train_tqdm()
        bar.bar_format = "{desc}{n_fmt}/{total_fmt} {bar:10} {elapsed}<{remaining}{postfix}"
        return bar

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        epochs = trainer.max_epochs or -1
        several = f"epoch {trainer.current_epoch + 1}" + (f" of {epochs}" if epochs > 0 else "")
        self.train_progress_bar.set_description("step" if trainer.max_steps > 0 else f"{several}, step")

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float | dict]:
        """Without ``train/`` and ``val/``, and rates as whole numbers: the terminal's width is for the values."""
        found = super().get_metrics(trainer, pl_module)
        return {_SHORT.get(name, name.rpartition("/")[2]): value for name, value in found.items() if name != "v_num"}


_SHORT = {
    "images_per_second": "img/s",
    "val/detection_rate": "found",
    "val/identity_misses_zero": "identity",
    "val/identity_given_detection": "identity_found",
}

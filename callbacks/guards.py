"""What stops a run before it does harm."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

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

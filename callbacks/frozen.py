"""Frozen means frozen."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

import hashlib
from typing import Any

import lightning as L
from torch import nn

from contracts.errors import LikenessError
from lightning_modules.base import PersonalisationModule


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over the module's parameters and buffers, in their own order."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()


class FrozenGuard(L.Callback):
    """Asserts that the backbone's weights hold no gradient at the first step and did not change by the end."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        self._before = weights_digest(pl_module.backbone)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: PersonalisationModule, optimizer: Any) -> None:
        if trainer.global_step:
            return
        held = [name for name, p in pl_module.backbone.named_parameters() if p.grad is not None or p.requires_grad]
        if held:
            raise LikenessError(f"rank {trainer.global_rank}: frozen weights hold a gradient, first of them {held[0]}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        if weights_digest(pl_module.backbone) != self._before:
            raise LikenessError(f"rank {trainer.global_rank}: frozen backbone weights changed during training")

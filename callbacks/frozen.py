"""Frozen means frozen, in the numbers that training computes in."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

import hashlib
from contextlib import ExitStack
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from contracts.errors import LikenessError
from lightning_modules.base import PersonalisationModule
from networks.backbone import lay_out_for
from networks.precision import AUTOCAST, bfloat16_units, hold_frozen, tf32


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over the module's parameters and buffers, in their own order."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class FrozenPrecision(L.Callback):
    """From the first step on the frozen base model's weights lie in the precision that autocast computes in, and in the
    layout of the device.

    No step casts them, and they take half the memory. What is computed is the same to the last bit. They stay so after
    the training: whoever wants the base model in float32 loads it again. TF32 is allowed or not as it is asked for.
    """

    def __init__(self, allow_tf32: bool = False) -> None:
        self._allow_tf32, self._flags = allow_tf32, ExitStack()

    def on_fit_start(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        if trainer.precision == "bf16-mixed" and not bfloat16_units(pl_module.device):
            rank_zero_info(
                "this processor has no bfloat16 units: --trainer.precision 32-true is about ten times faster here"
            )
        if (dtype := AUTOCAST.get(str(trainer.precision))) is not None:
            hold_frozen(pl_module.backbone, dtype)
        lay_out_for(pl_module.backbone, pl_module.device)
        self._flags.enter_context(tf32(self._allow_tf32))

    def teardown(self, trainer: L.Trainer, pl_module: PersonalisationModule, stage: str) -> None:
        self._flags.close()

    def on_exception(self, trainer: L.Trainer, pl_module: PersonalisationModule, exception: BaseException) -> None:
        self._flags.close()


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

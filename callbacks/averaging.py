"""Averages of the trained weights (EMA, SWA): what Lightning's callbacks ask for, done to what is trained alone."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging
from torch import Tensor

from callbacks.trainer import Trainer
from contracts.errors import LikenessError
from lightning_modules.base import PersonalisationModule


class AveragedWeights(L.Callback):
    """Does what ``wanted`` says: when to average, how, and on which device the average lies.

    Lightning's own callback copies and averages the whole module, so rounding moves the frozen weights, and its
    checkpoints hold the base model. Here the average covers the parameters of the method's adapter. It is what is
    validated and what becomes an adapter file. Checkpoints keep both, and training goes on with the weights themselves.
    Before the first update the average is the weights.
    """

    def __init__(self, wanted: WeightAveraging) -> None:
        self._wanted = wanted
        self._average: dict[str, Tensor] = {}
        self._updates = 0
        self._last_step, self._last_epoch = 0, -1
        self._swapped = False

    def setup(self, trainer: L.Trainer, pl_module: PersonalisationModule, stage: str) -> None:
        """Raises :class:`LikenessError` for a method that optimises one group of subjects after another."""
        if pl_module.enrols:
            raise LikenessError(
                f"trainer.callbacks: {type(self._wanted).__name__} is refused: {type(pl_module).__name__} trains other "
                "weights for every subject, and an average would mix them"
            )

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: PersonalisationModule, *_: Any) -> None:
        if trainer.global_step > self._last_step and self._wanted.should_update(step_idx=trainer.global_step - 1):
            self._update(pl_module)
            self._last_step = trainer.global_step

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        if trainer.current_epoch > self._last_epoch and self._wanted.should_update(epoch_idx=trainer.current_epoch):
            self._update(pl_module)
            self._last_epoch = trainer.current_epoch

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        self._swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {
            "average": self._average,
            "updates": self._updates,
            "last_step": self._last_step,
            "last_epoch": self._last_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._average, self._updates = state_dict["average"], state_dict["updates"]
        self._last_step, self._last_epoch = state_dict["last_step"], state_dict["last_epoch"]

    @contextmanager
    def in_place(self, pl_module: PersonalisationModule) -> Iterator[None]:
        """The module holds the averages inside the block."""
        if self._swapped:  # in the middle of a validation it does anyway
            yield
            return
        self._swap(pl_module)
        try:
            yield
        finally:
            self._swap(pl_module)

    @torch.no_grad()
    def _update(self, pl_module: PersonalisationModule) -> None:
        for name, weight in pl_module.adapter().named_parameters():
            if name not in self._average:
                self._average[name] = weight.detach().clone().to(self._wanted._device or weight.device)
                continue
            before = self._average[name].to(self._wanted._device or weight.device)
            now = weight.detach().to(before.device)
            # The average of equal numbers is rounded, and would wander off where a stage trains nothing.
            self._average[name] = torch.where(before == now, now, self._mean(before, now))
        self._updates += 1

    def _mean(self, before: Tensor, now: Tensor) -> Tensor:
        given = self._wanted._kwargs
        count = torch.tensor(self._updates, device=before.device)
        if given.get("multi_avg_fn") is not None:
            mean = before.clone()
            given["multi_avg_fn"]([mean], [now], count)
            return mean
        if given.get("avg_fn") is not None:
            return given["avg_fn"](before, now, count)
        return before + (now - before) / (self._updates + 1)

    @torch.no_grad()
    def _swap(self, pl_module: PersonalisationModule) -> None:
        self._swapped = not self._swapped
        for name, weight in pl_module.adapter().named_parameters():
            if name in self._average:
                average = self._average[name]
                self._average[name] = weight.detach().to(average.device, copy=True)
                weight.copy_(average)


@contextmanager
def exported_weights(trainer: Trainer, pl_module: PersonalisationModule) -> Iterator[None]:
    """Inside the block the module holds what becomes an adapter: averages where a callback makes them."""
    averages = next((one for one in trainer.callbacks if isinstance(one, AveragedWeights)), None)
    if averages is None:
        yield
        return
    with averages.in_place(pl_module):
        yield

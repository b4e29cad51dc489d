"""What a run saves while it trains: its state, an adapter with each state, and the best adapter by a metric."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

import math
from typing import Any

from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.averaging import AveragedWeights, exported_weights
from callbacks.trainer import Trainer
from contracts.errors import LikenessError
from contracts.files import remove
from lightning_modules.base import PersonalisationModule
from lightning_modules.run import Run
from metrics.registry import METRICS


class Checkpoints(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` every ``every`` steps, before each validation, after it, and at the last step.

    A checkpoint says whether the validation of its step is still to come: a run that is killed in a validation goes on
    with it. With each one the adapter of its step is written, and the newest ``keep`` of those stay, at least one, or
    all of them (-1). ``best`` names a metric of the validation: the adapter that did best by it stays too.
    """

    def __init__(self, run: Run, every: int, keep: int = 5, best: str | None = None) -> None:
        self._run, self._every, self._keep, self._metric = run, every, keep, best
        self._folder = run.folder / "checkpoints"
        self._saved = self._validated = -1
        self._due = False
        self._best: dict[str, Any] | None = None

    @property
    def validation_is_due(self) -> bool:
        """Whether the checkpoint that was loaded is of a step whose validation was still to come."""
        return self._due

    @property
    def best(self) -> dict[str, Any] | None:
        """``metric``, ``value`` and ``step`` of the best adapter; ``None`` where none was measured."""
        return self._best

    def setup(self, trainer: Trainer, pl_module: PersonalisationModule, stage: str) -> None:
        """Raises :class:`LikenessError` where adapters of several steps cannot be compared."""
        if self._metric is not None and pl_module.enrols:
            raise LikenessError(
                f"checkpoint_best is refused: {type(pl_module).__name__} optimises one group of subjects after "
                "another, and an adapter of an earlier step lacks the later ones"
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: PersonalisationModule, *_: Any) -> None:
        loop, step = trainer.fit_loop.epoch_loop, trainer.global_step
        if loop._should_accumulate() or step == self._saved:  # half of an accumulated gradient cannot be saved
            return
        batches = trainer.fit_loop._data_fetcher
        assert batches is not None  # this one came from there
        due = loop._should_check_val_fx(batches)
        if due or step % self._every == 0 or step == trainer.max_steps or step - 1 == self._validated:
            self._due = due
            # Lightning would do so after this hook, and a process that is killed in between would lose the points.
            trainer._logger_connector.update_train_step_metrics()
            self.save(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: PersonalisationModule) -> None:
        if trainer.sanity_checking:
            return
        self._due, self._validated = False, trainer.global_step
        value = trainer.callback_metrics.get(f"val/{self._metric}") if trainer.is_global_zero else None
        if self._metric is None or value is None or not math.isfinite(value):
            return
        sign = 1.0 if METRICS[self._metric].higher_is_better else -1.0
        if self._best is None or sign * float(value) > sign * self._best["value"]:
            self._best = {"metric": self._metric, "value": float(value), "step": trainer.global_step}
            self._write_adapter(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: PersonalisationModule) -> None:
        if trainer.global_step != self._saved:  # an end that no number of steps announced, such as that of the epochs
            self.save(trainer, pl_module)

    def save(self, trainer: Trainer, pl_module: PersonalisationModule, name: str = "last.ckpt") -> None:
        """Collective. Write the state of this step and its adapter."""
        for logger in trainer.loggers:  # what is logged until this step must be on the disk as the state is
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
        trainer.save_checkpoint(self._folder / name, weights_only=False)
        self._saved = trainer.global_step
        if trainer.is_global_zero:
            self._write_adapter(trainer, pl_module)
            if name == "last.ckpt":
                remove(self._folder / "interrupted.ckpt")  # the state of an earlier step

    def save_interrupted(self, trainer: Trainer, pl_module: PersonalisationModule) -> None:
        """Collective. Write the state of this step, unless it is written."""
        if trainer.global_step != self._saved:
            self.save(trainer, pl_module, "interrupted.ckpt")

    def _write_adapter(self, trainer: Trainer, pl_module: PersonalisationModule) -> None:
        step = trainer.global_step
        with exported_weights(trainer, pl_module):
            if not pl_module.save_adapter(self._run.adapter_of(step)):
                return
        kept = {self._best["step"]} if self._best else set()
        for old in self._run.adapter_steps()[: -self._keep] if self._keep > 0 else ():
            if old not in kept and old != step:
                remove(self._run.adapter_of(old))

    # --- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"validation_is_due": self._due, "validated": self._validated, "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._due, self._validated = state_dict["validation_is_due"], state_dict["validated"]
        self._best = state_dict["best"]

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: PersonalisationModule, checkpoint: dict[str, Any]
    ) -> None:
        self._saved = checkpoint["global_step"]
        averages = AveragedWeights.__qualname__
        now = any(isinstance(callback, AveragedWeights) for callback in trainer.callbacks)
        if (averages in checkpoint["callbacks"]) != now:
            raise LikenessError(
                f"the checkpoint was made {'without' if now else 'with'} a callback that averages the weights, here "
                f"there is {'one' if now else 'none'}: give trainer.callbacks as they were, or another --output"
            )

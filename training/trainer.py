"""Lightning's trainer with more: it listens, catches up on a validation, saves when told to end, names silent ranks."""

from datetime import timedelta
from typing import Any, TypeVar

from lightning.pytorch import Callback
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.logger_connector import _LoggerConnector
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.checkpoints import Checkpoints
from callbacks.frozen import FrozenGuard, FrozenPrecision
from callbacks.guards import FiniteLoss
from callbacks.interruption import Interruption
from callbacks.progress import Telemetry
from callbacks.run_folder import RunFolder
from callbacks.silent_ranks import SilentRanks
from callbacks.trainer import Trainer
from contracts.errors import SAVED
from lightning_modules.base import PersonalisationModule
from lightning_modules.run import Run

C = TypeVar("C", bound=Callback)


def callbacks_of_every_run(
    run: Run,
    config: str,
    checkpoints: Checkpoints,
    rank_timeout: int = 1800,
    max_time: str | timedelta | dict[str, int] | None = None,
    tf32: bool = False,
    searched: dict[str, Any] | None = None,
) -> list[Callback]:
    """What every run is trained under: guards, the files of ``run``, its ``checkpoints``, and an ear for signals.

    Args:
        config: The resolved configuration as YAML text.
        rank_timeout: Seconds after which a process that does not answer ends the others.
        max_time: When a start ends, see :class:`callbacks.interruption.Interruption`.
        tf32: Whether float32 products and convolutions may use TF32.
        searched: What the manifest says of the search for the settings, if there was one.
    """
    return [
        SilentRanks(rank_timeout),
        Interruption(max_time),
        FiniteLoss(),
        FrozenPrecision(tf32),
        FrozenGuard(),
        Telemetry(),
        RunFolder(run, config, checkpoints, searched),
        checkpoints,
    ]


class _PointsOnce(_LoggerConnector):
    """Logs the points of a step once, although a checkpoint asks for them before Lightning does."""

    _logged = -1

    def update_train_step_metrics(self) -> None:
        step = self.trainer.global_step
        if step != self._logged and not self.trainer.fit_loop._should_accumulate():
            super().update_train_step_metrics()
            self._logged = step


class _AsksNobody(_TrainingEpochLoop):
    """Lightning's loop without its question before every step whether the first process was told to end: the answer
    costs a collective and a wait for the GPU, and :class:`Interruption` asks all processes."""

    def _broadcast_sigterm_tensor(self) -> None:
        pass


class RunTrainer(Trainer):
    """A trainer with one each of :class:`Interruption`, :class:`SilentRanks` and :class:`Checkpoints` as callbacks.

    ``finished_at`` is the step at which an earlier start finished the run, if one did.
    """

    finished_at: int | None = None

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Lightning asks nobody which ones it shall make.
        self._logger_connector.__class__ = _PointsOnce
        self.fit_loop.epoch_loop.__class__ = _AsksNobody

    def _run(self, *arguments: Any, **more: Any) -> Any:
        """In every process. Of forked ones the first would never hear of an exit code of 0."""
        try:
            with self._only(SilentRanks).named(self):
                return super()._run(*arguments, **more)
        except SIGTERMException as stop:
            if self._only(Interruption).began:
                module = self.lightning_module
                assert isinstance(module, PersonalisationModule)
                self._only(Checkpoints).save_interrupted(self, module)
            for logger in self.loggers:  # a forked process ends without the trainer's own way out
                logger.finalize("interrupted")
            stop.code = SAVED
            raise

    def _run_sanity_check(self) -> None:
        """Where a validation may run before the first step: the checkpoint is loaded, and no random number is lost."""
        self._only(Interruption).listen()
        super()._run_sanity_check()
        if self._only(Checkpoints).validation_is_due and self.global_step != self.finished_at:
            self.fit_loop.setup_data()
            loop = self.fit_loop.epoch_loop.val_loop
            loop.restarting = False
            self.validating = True
            loop.run()
            self.training = True

    def limit_silence(self) -> None:
        """Let a process that does not answer end the others."""
        self._only(SilentRanks).limit(self)

    def _only(self, kind: type[C]) -> C:
        return next(callback for callback in self.callbacks if isinstance(callback, kind))

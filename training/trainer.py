"""Lightning's trainer with more: it listens, catches up on a validation, saves when told to end, names silent ranks."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.checkpoints import Checkpoints
from callbacks.interruption import EXIT_CODE, Interruption
from callbacks.silent_ranks import SilentRanks


class RunTrainer(Trainer):
    """A trainer with one each of :class:`Interruption`, :class:`SilentRanks` and :class:`Checkpoints` as callbacks.

    ``finished_at`` is the step at which an earlier start finished the run, if one did.
    """

    finished_at: int | None = None

    def _run(self, *arguments: Any, **more: Any) -> Any:
        """In every process. Of forked ones the first would never hear of an exit code of 0."""
        try:
            with self._only(SilentRanks).named(self):
                return super()._run(*arguments, **more)
        except SIGTERMException as stop:
            if self._only(Interruption).began:
                self._only(Checkpoints).save_interrupted(self, self.lightning_module)
            for logger in self.loggers:  # a forked process ends without the trainer's own way out
                logger.finalize("interrupted")
            stop.code = EXIT_CODE
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

    def _only(self, kind: type) -> Any:
        return next(callback for callback in self.callbacks if isinstance(callback, kind))  # type: ignore[attr-defined]

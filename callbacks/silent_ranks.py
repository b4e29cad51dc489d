"""A rank that stops answering ends the others, with a line that names it."""

from datetime import timedelta

import lightning as L

from contracts.errors import LikenessError
from contracts.roll_call import is_about_waiting, say_who_i_am, who_is_silent


class SilentRanks(L.Callback):
    """Turns what the network says about a rank that did not answer for ``seconds`` into a line that names it."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def limit(self, trainer: L.Trainer) -> None:
        """Let the processes of a trainer wait so long for each other. Call it before they are started."""
        if hasattr(trainer.strategy, "_timeout"):  # those that have a group of processes
            trainer.strategy._timeout = timedelta(seconds=self.seconds)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        say_who_i_am(trainer.world_size)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Raises :class:`LikenessError` in place of the network's error."""
        if is_about_waiting(exception, trainer.world_size):
            raise LikenessError(who_is_silent(trainer.global_rank, trainer.world_size, self.seconds)) from exception

"""A rank that stops answering ends the others, with a line that names it."""

from contextlib import AbstractContextManager
from datetime import timedelta

import lightning as L

from contracts.roll_call import names_the_silent, say_who_i_am


class SilentRanks(L.Callback):
    """Lets processes wait ``seconds`` for each other, and turns what the network says then into a line that names who
    did not answer."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def limit(self, trainer: L.Trainer) -> None:
        """Call it before the processes of a trainer are started."""
        if hasattr(trainer.strategy, "_timeout"):  # those that have a group of processes
            trainer.strategy._timeout = timedelta(seconds=self.seconds)

    def named(self, trainer: L.Trainer) -> AbstractContextManager[None]:
        """:func:`contracts.roll_call.names_the_silent` around all that the trainer does in this process."""
        return names_the_silent(trainer.global_rank, trainer.world_size, self.seconds)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Collective."""
        say_who_i_am(trainer.world_size)

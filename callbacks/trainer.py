"""Lightning's trainer with what it has and does not tell a type checker."""

import lightning as L
from lightning.pytorch import Callback

from datamodules.spotdiff10k import SpotDiff10kDataModule


class Trainer(L.Trainer):
    """Any trainer of a method is one of these as far as types go."""

    callbacks: list[Callback]
    datamodule: SpotDiff10kDataModule
    log_every_n_steps: int

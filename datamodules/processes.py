"""Which of the processes of a run this one is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def _nothing() -> None:
    """One process waits for nobody."""


@dataclass(frozen=True)
class Processes:
    """This process among those of a run; ``local`` ones share a machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    barrier: Callable[[], None] = _nothing

    @classmethod
    def of(cls, trainer: "Trainer | None") -> "Processes":
        """Those of a trainer; a single one without it."""
        if trainer is None:
            return cls()
        return cls(
            rank=trainer.global_rank,
            count=trainer.world_size,
            local_rank=trainer.local_rank,
            local_count=max(1, trainer.world_size // trainer.num_nodes),
            device=trainer.strategy.root_device,
            barrier=trainer.strategy.barrier,
        )

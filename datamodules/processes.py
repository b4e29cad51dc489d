"""Which of the processes of a run this one is, and how they fail together."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed

from contracts.errors import LikenessError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

T = TypeVar("T")


def together(count: int, step: Callable[[], T]) -> T:
    """Run ``step`` in all ``count`` processes and wait for all; a ``LikenessError`` in one is raised in every one.

    ``step`` must not communicate itself. A process with nothing to do calls this all the same.
    """
    if count == 1:
        return step()
    result, message = None, None
    try:
        result = step()
    except LikenessError as error:
        message = str(error)
    messages: list[str | None] = [None] * count
    torch.distributed.all_gather_object(messages, message)
    for found in messages:
        if found is not None:
            raise LikenessError(found)
    return result  # type: ignore[return-value]


@dataclass(frozen=True)
class Processes:
    """This process among those of a run; ``local`` ones share a machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def together(self, step: Callable[[], T]) -> T:
        """:func:`together` in all of them."""
        return together(self.count, step)

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
        )

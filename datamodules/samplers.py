"""Which samples a batch is made of: pure functions of the seed and the batch's number.

Batch k is the same for every process count, and a run that was stopped after batch k goes on with batch k + 1.
So there is no sampler state: the trainer's own count of batches is the position.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from contracts.errors import LikenessError
from networks.keyed_noise import keyed_generator

Batch = TypeVar("Batch", covariant=True)
T = TypeVar("T")


@lru_cache(maxsize=4)
def epoch_order(length: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A permutation of ``range(length)``, another one for every epoch."""
    return tuple(torch.randperm(length, generator=keyed_generator("order", seed, epoch)).tolist())


def global_batch(number: int, batch_size: int, length: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, index) of the samples of batch ``number`` over all processes.

    The epochs' permutations follow one another without a gap, so each epoch has every sample exactly once, and a
    batch may hold the end of one epoch and the beginning of the next.
    """
    places = range(number * batch_size, (number + 1) * batch_size)
    return [(p // length, epoch_order(length, seed, p // length)[p % length]) for p in places]


def share(items: Sequence[T], rank: int, count: int) -> list[T]:
    """The items of process ``rank``: every ``count``-th one, so that each item is in exactly one share."""
    return list(items[rank::count])


def per_process(batch_size: int, count: int) -> int:
    """Size of one process's part of a global batch.

    Raises:
        LikenessError: the parts would differ in size, which would weigh samples differently.
    """
    if batch_size % count:
        lower = batch_size - batch_size % count
        use = f"{lower} or {lower + count}" if lower else str(count)
        raise LikenessError(f"batch_size {batch_size} (over all processes) is not divisible by {count}: use {use}")
    return batch_size // count


class Stream(Protocol[Batch]):
    """Batches by number; each one is a pure function of it."""

    def __getitem__(self, number: int, /) -> Batch: ...


class StepLoader(Generic[Batch]):
    """Batches of a stream from the position on that training has reached.

    Lightning takes it as it is (it injects samplers into a ``DataLoader`` only) and stops by its length.

    Args:
        length: Batches that the trainer counts as one epoch.
        position: Number of batches that were trained on so far, read when an epoch begins.
        num_workers: Processes that make batches. They live as long as the loader, over all epochs.
        pinned: Whether batches lie in pinned memory, from which they get to a GPU while it works.
    """

    def __init__(
        self,
        stream: Stream[Batch],
        length: int,
        position: Callable[[], int],
        num_workers: int = 0,
        pinned: bool = False,
    ) -> None:
        self._numbers = _Numbers(length, position)
        self._loader = DataLoader(
            _Items(stream),
            sampler=self._numbers,
            batch_size=None,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pinned,
            generator=torch.Generator(),  # otherwise every iteration draws from the global generator
        )

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._loader)

    def state_dict(self) -> dict[str, int]:
        """Empty: the trainer counts the batches. That this exists tells Lightning that resuming works."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to take over, see :meth:`state_dict`."""


class _Numbers(Sampler[int]):
    """The numbers of an epoch's batches."""

    def __init__(self, length: int, position: Callable[[], int]) -> None:
        self._length, self._position = length, position

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        first = self._position()
        return iter(range(first, first + self._length))


class _Items(Dataset[Batch]):
    """A stream as a dataset whose items are whole batches."""

    def __init__(self, stream: Stream[Batch]) -> None:
        self._stream = stream

    def __getitem__(self, number: int) -> Batch:
        return self._stream[number]


def check_same_batches(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Compare what decides the training batches here with what a checkpoint holds of it.

    Raises:
        LikenessError: they differ; the message names the first setting that does.
    """
    ours, theirs = _flat(ours), _flat(theirs)
    for name in sorted({**ours, **theirs}, key=_hashed):  # settings say more than the data that follow from them
        if theirs.get(name) != ours.get(name):
            shown = "" if _hashed(name) else f" ({theirs.get(name)} there, {ours.get(name)} here)"
            raise LikenessError(
                f"the checkpoint was trained with other batches: `{name}` differs{shown}; take another --output, "
                "or the settings it was made with"
            )


def _hashed(name: str) -> bool:
    return name == "data" or name.startswith("encoder.")


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the entries of a part on their own: ``part.name``."""
    flat: dict[str, Any] = {}
    for name, value in state.items():
        flat |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat

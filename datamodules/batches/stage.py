"""What a method trains on before the pairs, or in their place."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic

from contracts.errors import LikenessError
from datamodules.batches.pairs import PairStream, TrainingData
from datamodules.features.registry import Settings
from datamodules.index import Photo
from datamodules.samplers import Batch, Stream


class Stage(ABC):
    """Base of the first stages.

    A subclass is a dataclass. Its fields are the settings that a user gives under ``data.first_stage.init_args``, and
    all of them decide the batches: a checkpoint of others is refused.
    """

    steps: int = 0
    """Number of steps that it trains before those on pairs; 0 where it takes their place."""
    texts: Sequence[str] = ()
    """What it says of photos besides their captions."""

    def features(self, given: Settings) -> Settings:
        """Features that it reads of the training photos besides the method's own, which are ``given``.

        Raises:
            LikenessError: it needs settings that are not given.
        """
        return {}

    def own_photos(self, dataset: Sequence[Photo]) -> list[Photo]:
        """What it trains on besides the training photos, of those of all splits."""
        return []

    @abstractmethod
    def stream(self, data: TrainingData) -> Stream:
        """Its batches by number.

        Raises:
            LikenessError: the photos do not allow such batches.
        """

    def training(self, data: TrainingData) -> tuple[Stream, int]:
        """Batches of the whole training by number, and how many an epoch has without the first stage."""
        pairs = PairStream(data)
        return TwoStageStream(self.stream(data), pairs, self.steps * data.accumulate), len(pairs)

    def to_json(self) -> dict[str, Any]:
        """What decides the batches besides the data."""
        return {"kind": type(self).__name__, **vars(self)}


class TwoStageStream(Generic[Batch]):
    """``length`` batches of the ``first`` stream, then the ``second`` one from its beginning."""

    def __init__(self, first: Stream[Batch], second: Stream[Batch], length: int) -> None:
        self._first = first
        self._second = second
        self._length = length

    def __getitem__(self, number: int) -> Batch:
        return self._first[number] if number < self._length else self._second[number - self._length]


def check_steps(steps: int) -> None:
    """Raise ``LikenessError`` where a first stage has no steps."""
    if steps < 1:
        raise LikenessError(
            f"data.first_stage.steps is {steps}, it must be at least 1: give data.first_stage null to leave it out"
        )

"""The first stage of SpotDiff: groups of photos for the pose and the background expert."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from contracts.batch import FactorBatch
from contracts.errors import LikenessError
from datamodules.batches.pairs import TrainingData
from datamodules.batches.stage import Stage, check_steps
from datamodules.index import Photo
from networks.keyed_noise import keyed_generator

_ATTEMPTS = 200


@dataclass
class ExpertStage(Stage):
    """Batches for the experts.

    Args:
        steps: Number of batches.
        batch_size: Photos per batch; every process gets all of them.
    """

    steps: int
    batch_size: int = 128

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if self.batch_size < 4:
            raise LikenessError(
                f"data.first_stage.batch_size {self.batch_size} is too small: two poses need two photos each"
            )

    def stream(self, data: TrainingData) -> "FactorStream":
        return FactorStream(data, self.batch_size)


class FactorStream:
    """Batch k for the pose and the background expert, the whole of it for every process.

    A contrastive loss compares all samples of a batch, and the features come from a cache: so every process gets
    the whole batch and computes the same loss, and nothing need be gathered.

    Raises:
        LikenessError: fewer than two poses, backgrounds or subjects.
    """

    def __init__(self, data: TrainingData, batch_size: int) -> None:
        usable = _shared(data.photos)
        self._cells: dict[tuple[int, int], list[Photo]] = {}
        self._behind: dict[int, list[Photo]] = {}
        for photo in usable:
            self._cells.setdefault((photo.pose_id, photo.background_id), []).append(photo)
            self._behind.setdefault(photo.background_id, []).append(photo)
        self._poses = sorted({photo.pose_id for photo in usable})
        self._backgrounds = sorted(self._behind)
        self._subjects = sorted({photo.subject_id for photo in usable})
        for name, labels in (("pose", self._poses), ("background", self._backgrounds)):
            if len(labels) < 2:
                raise LikenessError(f"the experts need at least two {name}s that two training subjects share")
        self._data = data
        self._batch_size = batch_size

    def __getitem__(self, number: int) -> FactorBatch:
        photos = self._grouped(number)
        return FactorBatch(
            sample_ids=tuple(photo.id for photo in photos),
            features=self._data.references(photos),
            pose=torch.tensor([self._poses.index(photo.pose_id) for photo in photos]),
            background=torch.tensor([self._backgrounds.index(photo.background_id) for photo in photos]),
            subject=torch.tensor([self._subjects.index(photo.subject_id) for photo in photos]),
        )

    def _grouped(self, number: int) -> list[Photo]:
        """Photos in which every pose and every background that occurs does so with at least two subjects."""
        for attempt in range(_ATTEMPTS):
            draws = keyed_generator("group", self._data.seed, number, attempt)
            poses = self._spread(self._poses, draws)
            backgrounds = self._spread(self._backgrounds, draws)
            photos: list[Photo] = []
            for pose, background in zip(poses, backgrounds, strict=True):
                met = {p.subject_id for p in photos if p.background_id == background}
                # Where nobody else was taken in this pose before this background, another pose before it will do.
                cell, behind = self._cells.get((pose, background), []), self._behind[background]
                new = [p for p in cell if p.subject_id not in met] or [p for p in behind if p.subject_id not in met]
                choice = new or behind
                photos.append(choice[int(torch.randint(len(choice), (), generator=draws))])
            if len({photo.id for photo in photos}) == len(photos) == len(_shared(photos)):
                return photos
        raise LikenessError(
            f"no batch of {self._batch_size} photos was found in which every pose and background has two subjects: "
            "change data.first_stage.batch_size, or give every subject more poses and backgrounds"
        )

    def _spread(self, labels: list[int], draws: torch.Generator) -> list[int]:
        """A label for each place of the batch, in random order, each label as often as any other and at least twice."""
        order = torch.randperm(len(labels), generator=draws).tolist()
        some = [labels[i] for i in order[: self._batch_size // 2]]
        places = torch.randperm(self._batch_size, generator=draws).tolist()
        return [some[place % len(some)] for place in places]


def _shared(photos: Sequence[Photo]) -> list[Photo]:
    """The photos left when those are taken out, again and again, whose pose or background only one subject has."""
    left = list(photos)
    while True:
        subjects: dict[tuple[str, int], set[str]] = {}
        for photo in left:
            subjects.setdefault(("pose", photo.pose_id), set()).add(photo.subject_id)
            subjects.setdefault(("background", photo.background_id), set()).add(photo.subject_id)
        lonely = {label for label, some in subjects.items() if len(some) < 2}
        if not lonely:
            return left
        left = [p for p in left if not {("pose", p.pose_id), ("background", p.background_id)} & lonely]

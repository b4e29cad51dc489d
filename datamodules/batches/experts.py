"""The first stage of SpotDiff: groups of photos for the pose and the background expert."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from contracts.batch import FactorBatch
from contracts.errors import LikenessError
from datamodules.batches.pairs import TrainingData
from datamodules.batches.stage import Stage, check_steps
from datamodules.index import Photo
from networks.keyed_noise import keyed_generator

_ATTEMPTS = 20


@dataclass
class ExpertStage(Stage):
    """Batches for the experts.

    Args:
        steps: Steps of training.
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

    A contrastive loss compares all samples of a batch, and the features come from a cache: so every process gets the
    whole batch and computes the same loss, and nothing need be gathered.

    Raises:
        LikenessError: as :class:`FactorGroups`.
    """

    def __init__(self, data: TrainingData, batch_size: int) -> None:
        self._data = data
        self._groups = FactorGroups(data.photos, batch_size, data.seed)

    def __getitem__(self, number: int) -> FactorBatch:
        group, groups = self._groups[number], self._groups
        photos = [one.photo for one in group]
        return FactorBatch(
            sample_ids=tuple(photo.id for photo in photos),
            features=self._data.references(photos),
            pose=torch.tensor([groups.poses.index(one.pose) for one in group]),
            background=torch.tensor([groups.backgrounds.index(one.background) for one in group]),
            subject=torch.tensor([groups.subjects.index(photo.subject_id) for photo in photos]),
        )


class FactorGroups:
    """The photos of batch k for the experts: each pose and each background that occurs does so with two subjects.

    Only photos take part whose pose class and background class are both known and found with two subjects.

    Raises:
        LikenessError: fewer than two poses, backgrounds or subjects, or no batch of this size can be made of them.
    """

    def __init__(self, photos: Sequence[Photo], batch_size: int, seed: int) -> None:
        self.usable = _shared(
            [
                Labelled(photo, photo.pose_id, photo.background_id)
                for photo in photos
                if photo.pose_id is not None and photo.background_id is not None
            ]
        )
        self._cells: dict[tuple[int, int], list[Labelled]] = {}
        self._behind: dict[int, list[Labelled]] = {}
        for one in self.usable:
            self._cells.setdefault((one.pose, one.background), []).append(one)
            self._behind.setdefault(one.background, []).append(one)
        self.poses = sorted({one.pose for one in self.usable})
        self.backgrounds = sorted(self._behind)
        self.subjects = sorted({one.photo.subject_id for one in self.usable})
        for name, labels in (("pose", self.poses), ("background", self.backgrounds)):
            if len(labels) < 2:
                raise LikenessError(
                    f"the experts need at least two {name}s that two training subjects share, in photos of which both "
                    f"`pose_id` and `background_id` are known: {len(labels)} in {len(photos)} photos; fill the "
                    "columns, or give data.first_stage null to train without this stage"
                )
        self._batch_size, self._seed = batch_size, seed
        _ = self[0]  # that there is none must not show after everything is encoded

    def __getitem__(self, number: int) -> "list[Labelled]":
        """Group ``number``. Where a few photos are all there is, it may be short by up to a half."""
        best: list[Labelled] = []
        for attempt in range(_ATTEMPTS):
            draws = keyed_generator("group", self._seed, number, attempt)
            poses = self._spread(self.poses, draws)
            backgrounds = self._spread(self.backgrounds, draws)
            group: dict[str, Labelled] = {}
            for pose, background in zip(poses, backgrounds, strict=True):
                met = {one.photo.subject_id for one in group.values() if one.background == background}
                # Where nobody else was taken in this pose before this background, another pose before it will do.
                cell, behind = self._cells.get((pose, background), []), self._behind[background]
                new = [p for p in cell if p.photo.subject_id not in met] or [
                    p for p in behind if p.photo.subject_id not in met
                ]
                choice = new or [p for p in behind if p.photo.id not in group]
                if choice:
                    one = choice[int(torch.randint(len(choice), (), generator=draws))]
                    group[one.photo.id] = one
            valid = _shared(list(group.values()))
            if len(valid) == self._batch_size:
                return valid
            best = max(best, valid, key=len)
        if 2 * len(best) >= self._batch_size:
            return best
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


class Labelled(NamedTuple):
    """A photo both of whose classes are known."""

    photo: Photo
    pose: int
    background: int


def _shared(group: Sequence[Labelled]) -> list[Labelled]:
    """The photos left when those are taken out, again and again, whose pose or background only one subject has."""
    left = list(group)
    while True:
        subjects: dict[tuple[str, int], set[str]] = {}
        for one in left:
            subjects.setdefault(("pose", one.pose), set()).add(one.photo.subject_id)
            subjects.setdefault(("background", one.background), set()).add(one.photo.subject_id)
        lonely = {label for label, some in subjects.items() if len(some) < 2}
        if not lonely:
            return left
        left = [one for one in left if not {("pose", one.pose), ("background", one.background)} & lonely]

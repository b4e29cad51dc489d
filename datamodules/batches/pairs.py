"""The training batches: cross-view pairs, groups for the experts, and one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import torch

from contracts.batch import FactorBatch, PairBatch
from contracts.errors import LikenessError
from datamodules.features.store import Features
from datamodules.index import Photo, by_subject, cross_views
from datamodules.samplers import Batch, Stream, global_batch, per_process, share
from networks.keyed_noise import keyed_generator, keyed_normal

TIMESTEPS = 1000
_ATTEMPTS = 200


@dataclass(frozen=True)
class Drops:
    """Shares of samples that are trained without identity, without text, without both (for guidance)."""

    identity: float = 0.05
    text: float = 0.05
    both: float = 0.05

    def __post_init__(self) -> None:
        rates = (self.identity, self.text, self.both)
        if min(rates) < 0 or sum(rates) > 1:
            raise LikenessError(f"drop rates {rates} must not be negative and must add up to 1 at most")

    def decide(self, uniform: float) -> tuple[bool, bool]:
        """(without identity, without text) for a number drawn from 0..1."""
        identity = uniform < self.identity
        both = self.identity + self.text <= uniform < self.identity + self.text + self.both
        text = self.identity <= uniform < self.identity + self.text
        return identity or both, text or both


class PairStream:
    """Batch k of cross-view pairs: this process's part of it.

    Every photo is the target once per epoch; its reference is drawn from the photos of the same subject that
    differ in pose and in background. All that is random in a sample is keyed by (seed, epoch, sample id). With features
    of faces come the head's mask and, where there is more than one subject, a photo of another person.

    Raises:
        LikenessError: no photo has a cross view, or the batch cannot be divided over the processes.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        features: Features,
        reference_features: Sequence[str],
        batch_size: int,
        seed: int,
        drops: Drops,
        rank: int = 0,
        count: int = 1,
    ) -> None:
        self._subjects = by_subject(photos)
        self.targets = [photo for photo in photos if cross_views(photo, self._subjects[photo.subject_id])]
        if not self.targets:
            raise LikenessError("no two photos of one subject differ in both pose and background: there are no pairs")
        per_process(batch_size, count)
        self._photos, self._features, self._names = photos, features, tuple(reference_features)
        self._faces = features.of_faces(self._names)
        self._batch_size, self._seed, self._drops, self._rank, self._count = batch_size, seed, drops, rank, count

    def __len__(self) -> int:
        """Batches per epoch, the last one rounded up."""
        return -(-len(self.targets) // self._batch_size)

    def __getitem__(self, number: int) -> PairBatch:
        everything = global_batch(number, self._batch_size, len(self.targets), self._seed)
        samples = [(epoch, self.targets[i]) for epoch, i in share(everything, self._rank, self._count)]
        targets = [photo for _, photo in samples]
        references, captions, timesteps, no_identity = [], [], [], []
        for epoch, photo in samples:
            draws = keyed_generator("sample", self._seed, epoch, photo.id)
            views = self.views(photo)
            references.append(views[int(torch.randint(len(views), (), generator=draws))])
            timesteps.append(int(torch.randint(TIMESTEPS, (), generator=draws)))
            without_identity, without_text = self._drops.decide(float(torch.rand((), generator=draws)))
            no_identity.append(without_identity)
            captions.append("" if without_text else photo.caption)
        moments = self._features.of_photos("moments", targets)
        latent = (moments.shape[1] // 2, *moments.shape[2:])
        return PairBatch(
            sample_ids=tuple(photo.id for photo in targets),
            moments=moments,
            latent_noise=self._noise("latent", samples, latent),
            noise=self._noise("diffusion", samples, latent),
            timestep=torch.tensor(timesteps),
            text_states=self._features.of_texts(captions),
            drop_identity=torch.tensor(no_identity),
            reference=self._rows(references),
            second_view=self._rows(targets),
            mask=self._features.of_photos("mask", targets),
            face=self._features.of_photos("face", targets) if self._faces else None,
            other=self._rows([self._other(epoch, photo) for epoch, photo in samples]) if self._several else {},
        )

    def views(self, photo: Photo) -> list[Photo]:
        """The photos that may be the reference of a target."""
        return cross_views(photo, self._subjects[photo.subject_id])

    def _rows(self, photos: Sequence[Photo]) -> dict[str, torch.Tensor]:
        return {name: self._features.of_photos(name, photos) for name in self._names}

    @property
    def _several(self) -> bool:
        return self._faces and len(self._subjects) > 1

    def _other(self, epoch: int, photo: Photo) -> Photo:
        """A photo of another person, by a key of its own, so that the other draws do not depend on it."""
        draws = keyed_generator("other", self._seed, epoch, photo.id)
        while True:
            other = self._photos[int(torch.randint(len(self._photos), (), generator=draws))]
            if other.subject_id != photo.subject_id:
                return other

    def _noise(self, what: str, samples: list[tuple[int, Photo]], shape: tuple[int, ...]) -> torch.Tensor:
        return torch.stack([keyed_normal(shape, what, self._seed, epoch, photo.id) for epoch, photo in samples])


class FactorStream:
    """Batch k for the pose and the background expert, the whole of it for every process.

    A contrastive loss compares all samples of a batch, and the features come from a cache: so every process gets
    the whole batch and computes the same loss, and nothing need be gathered.

    Raises:
        LikenessError: fewer than two poses, backgrounds or subjects.
    """

    def __init__(
        self, photos: Sequence[Photo], features: Features, names: Sequence[str], batch_size: int, seed: int
    ) -> None:
        usable = _shared(photos)
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
        if batch_size < 4:
            raise LikenessError(f"expert_batch_size {batch_size} is too small: two poses need two photos each")
        self._features, self._names, self._batch_size, self._seed = features, tuple(names), batch_size, seed

    def __getitem__(self, number: int) -> FactorBatch:
        photos = self._grouped(number)
        return FactorBatch(
            sample_ids=tuple(photo.id for photo in photos),
            features={name: self._features.of_photos(name, photos) for name in self._names},
            pose=torch.tensor([self._poses.index(photo.pose_id) for photo in photos]),
            background=torch.tensor([self._backgrounds.index(photo.background_id) for photo in photos]),
            subject=torch.tensor([self._subjects.index(photo.subject_id) for photo in photos]),
        )

    def _grouped(self, number: int) -> list[Photo]:
        """Photos in which every pose and every background that occurs does so with at least two subjects."""
        for attempt in range(_ATTEMPTS):
            draws = keyed_generator("group", self._seed, number, attempt)
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
            "change expert_batch_size, or give every subject more poses and backgrounds"
        )

    def _spread(self, labels: list[int], draws: torch.Generator) -> list[int]:
        """A label for each place of the batch, in random order, each label as often as any other and at least twice."""
        order = torch.randperm(len(labels), generator=draws).tolist()
        some = [labels[i] for i in order[: self._batch_size // 2]]
        places = torch.randperm(self._batch_size, generator=draws).tolist()
        return [some[place % len(some)] for place in places]


class TwoStageStream(Generic[Batch]):
    """``steps`` batches of the ``first`` stream, then the ``second`` one from its beginning."""

    def __init__(self, first: Stream[Batch], second: Stream[Batch], steps: int) -> None:
        self._first, self._second, self._steps = first, second, steps

    def __getitem__(self, number: int) -> Batch:
        return self._first[number] if number < self._steps else self._second[number - self._steps]


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

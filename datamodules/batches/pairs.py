"""Cross-view pairs: what encoder methods train on, and what all streams of batches are made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from contracts.batch import PairBatch
from contracts.errors import LikenessError
from datamodules.features.store import Features
from datamodules.index import Photo, by_subject, cross_views
from datamodules.samplers import global_batch, per_process, share
from networks.keyed_noise import keyed_generator, keyed_normal

TIMESTEPS = 1000
Pairs = Literal["cross", "same"]
"""Whether a target's reference is another view of its subject, or the target itself."""


@dataclass(frozen=True)
class Drops:
    """Shares of samples that are trained without a condition, for guidance.

    Args:
        identity: Without identity.
        text: Without text.
        both: Without either.
    """

    identity: float = 0.05
    text: float = 0.05
    both: float = 0.05

    def __post_init__(self) -> None:
        rates = (self.identity, self.text, self.both)
        if min(rates) < 0 or sum(rates) > 1:
            raise LikenessError(f"data.drops: drop rates {rates} must not be negative and must add up to 1 at most")

    def decide(self, uniform: float) -> tuple[bool, bool]:
        """(without identity, without text) for a number drawn from 0..1."""
        identity = uniform < self.identity
        both = self.identity + self.text <= uniform < self.identity + self.text + self.both
        text = self.identity <= uniform < self.identity + self.text
        return identity or both, text or both


@dataclass(frozen=True)
class TrainingData:
    """What training batches are made from.

    ``photos`` are trained on, ``dataset`` are those of all splits, ``names`` are the reference features. ``batch_size``
    is over all ``count`` processes, of which this one is ``rank``. The gradients of ``accumulate`` batches make a step.
    """

    photos: Sequence[Photo]
    dataset: Sequence[Photo]
    features: Features
    names: tuple[str, ...]
    batch_size: int
    seed: int
    drops: Drops
    pairs: Pairs = "cross"
    rank: int = 0
    count: int = 1
    accumulate: int = 1

    def references(self, photos: Sequence[Photo]) -> dict[str, torch.Tensor]:
        """The reference features of photos by name."""
        return {name: self.features.of_photos(name, photos) for name in self.names}

    def samples(self, number: int, photos: Sequence[Photo]) -> list[tuple[int, Photo]]:
        """(epoch, photo) of this process's part of batch ``number``; each photo occurs once per epoch."""
        everything = global_batch(number, self.batch_size, len(photos), self.seed)
        return [(epoch, photos[i]) for epoch, i in share(everything, self.rank, self.count)]

    def timestep_and_drops(self, draws: torch.Generator) -> tuple[int, bool, bool]:
        """A sample's timestep, and whether it is trained without identity and without text."""
        timestep = int(torch.randint(TIMESTEPS, (), generator=draws))
        return timestep, *self.drops.decide(float(torch.rand((), generator=draws)))

    def noise(self, what: str, samples: Sequence[tuple[int, Photo]], shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal numbers (B, *shape), keyed by ``what``, seed, epoch and sample."""
        return torch.stack([keyed_normal(shape, what, self.seed, epoch, photo.id) for epoch, photo in samples])


class PairStream:
    """Batch k of pairs, cross-view unless :data:`Pairs` says otherwise: this process's part of it.

    Every photo is the target once per epoch; its reference is drawn from the photos of the same subject that differ in
    pose and in background, as far as these are known (:func:`datamodules.index.cross_views`). All that is random in a
    sample is keyed by (seed, epoch, sample id). With features of faces come the head's mask and, where there is more
    than one subject, a photo of another person.

    Raises:
        LikenessError: no subject has two photos, or the batch cannot be divided over the processes.
    """

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self._subjects = by_subject(data.photos)
        self.targets = [photo for photo in data.photos if cross_views(photo, self._subjects[photo.subject_id])]
        if not self.targets:
            raise LikenessError("no training subject has two photos: there are no pairs of reference and target")
        per_process(data.batch_size, data.count)
        self._faces = data.features.of_faces(data.names)

    def __len__(self) -> int:
        """Batches per epoch, the last one rounded up."""
        return -(-len(self.targets) // self._data.batch_size)

    def __getitem__(self, number: int) -> PairBatch:
        data, features = self._data, self._data.features
        samples = data.samples(number, self.targets)
        targets = [photo for _, photo in samples]
        references, captions, timesteps, no_identity, chance = [], [], [], [], []
        for epoch, photo in samples:
            draws = keyed_generator("sample", data.seed, epoch, photo.id)
            views = self.views(photo)
            references.append(views[int(torch.randint(len(views), (), generator=draws))])
            timestep, without_identity, without_text = data.timestep_and_drops(draws)
            timesteps.append(timestep)
            no_identity.append(without_identity)
            captions.append("" if without_text else photo.caption)
            chance.append(torch.rand(2, generator=draws))
        moments = features.of_photos("moments", targets)
        latent = (moments.shape[1] // 2, *moments.shape[2:])
        several = self._faces and len(self._subjects) > 1
        return PairBatch(
            sample_ids=tuple(photo.id for photo in targets),
            moments=moments,
            latent_noise=data.noise("latent", samples, latent),
            noise=data.noise("diffusion", samples, latent),
            timestep=torch.tensor(timesteps),
            text_states=features.of_texts(captions).of_photos(features.sizes(targets)),
            drop_identity=torch.tensor(no_identity),
            reference=data.references(references),
            second_view=data.references(targets),
            mask=features.of_photos("mask", targets),
            face=features.of_photos("face", targets) if self._faces else None,
            other=data.references([self._other(epoch, photo) for epoch, photo in samples]) if several else {},
            chance=torch.stack(chance),
        )

    def views(self, photo: Photo) -> list[Photo]:
        """The photos that may be the reference of a target."""
        if self._data.pairs == "same":
            return [photo]
        return cross_views(photo, self._subjects[photo.subject_id])

    def _other(self, epoch: int, photo: Photo) -> Photo:
        """A photo of another person, by a key of its own, so that the other draws do not depend on it."""
        draws = keyed_generator("other", self._data.seed, epoch, photo.id)
        while True:
            other = self._data.photos[int(torch.randint(len(self._data.photos), (), generator=draws))]
            if other.subject_id != photo.subject_id:
                return other

"""The batches of PIDiff's other stages: aligned faces drawn from their own W+ codes, and one person's only photo."""

from collections.abc import Sequence

import torch

from contracts.batch import FaceBatch
from contracts.errors import LikenessError
from datamodules.batches.pairs import TIMESTEPS, Drops, PairStream
from datamodules.features.store import Features
from datamodules.index import Photo
from datamodules.samplers import global_batch, per_process, share
from networks.keyed_noise import keyed_generator, keyed_normal


class FaceStream:
    """Batch k of aligned faces: this process's part of it.

    Every photo occurs once per epoch. The code is made with the background, as the face is drawn with it, and the text
    is one of ``texts``, which say nothing about who or where (W+ Adapter, arXiv 2311.17461, stage 1). All that is
    random in a sample is keyed by (seed, epoch, sample id).

    Raises:
        LikenessError: there are no texts, or the batch cannot be divided over the processes.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        features: Features,
        texts: Sequence[str],
        batch_size: int,
        seed: int,
        drops: Drops,
        rank: int = 0,
        count: int = 1,
    ) -> None:
        if not texts:
            raise LikenessError("face_steps asks for a stage on aligned faces: set face_texts, what to say of any face")
        per_process(batch_size, count)
        self._photos, self._features, self._texts = photos, features, tuple(texts)
        self._batch_size, self._seed, self._drops, self._rank, self._count = batch_size, seed, drops, rank, count

    def __getitem__(self, number: int) -> FaceBatch:
        everything = global_batch(number, self._batch_size, len(self._photos), self._seed)
        samples = [(epoch, self._photos[i]) for epoch, i in share(everything, self._rank, self._count)]
        timesteps, no_identity, texts = [], [], []
        for epoch, photo in samples:
            draws = keyed_generator("face", self._seed, epoch, photo.id)
            timesteps.append(int(torch.randint(TIMESTEPS, (), generator=draws)))
            without_identity, without_text = self._drops.decide(float(torch.rand((), generator=draws)))
            no_identity.append(without_identity)
            text = self._texts[int(torch.randint(len(self._texts), (), generator=draws))]
            texts.append("" if without_text else text)
        photos = [photo for _, photo in samples]
        moments = self._features.of_photos("face_moments", photos)
        latent = (moments.shape[1] // 2, *moments.shape[2:])
        return FaceBatch(
            sample_ids=tuple(photo.id for photo in photos),
            moments=moments,
            latent_noise=self._noise("face latent", samples, latent),
            noise=self._noise("face diffusion", samples, latent),
            timestep=torch.tensor(timesteps),
            text_states=self._features.of_texts(texts),
            drop_identity=torch.tensor(no_identity),
            reference={"wplus": self._features.of_photos("wplus_background", photos)},
        )

    def _noise(self, what: str, samples: list[tuple[int, Photo]], shape: tuple[int, ...]) -> torch.Tensor:
        return torch.stack([keyed_normal(shape, what, self._seed, epoch, photo.id) for epoch, photo in samples])


class PersonStream(PairStream):
    """Batch k of one photo over and over, target and reference at once, with noise and timestep of its own each time.

    For a short phase on one person (PIDiff-R, our reading of "identity-tailored"). ``others`` are the photos that other
    people are taken from. The rest is as in :class:`~datamodules.batches.pairs.PairStream`.
    """

    def __init__(
        self,
        photo: Photo,
        others: Sequence[Photo],
        features: Features,
        reference_features: Sequence[str],
        batch_size: int,
        seed: int,
        drops: Drops,
        rank: int = 0,
        count: int = 1,
    ) -> None:
        super().__init__(others, features, reference_features, batch_size, seed, drops, rank, count)
        self.targets = [photo]

    def views(self, photo: Photo) -> list[Photo]:
        """The photo itself."""
        return [photo]

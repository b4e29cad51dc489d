"""The other stages of PIDiff: aligned faces with their own W+ codes first, or one person's only photo at the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from contracts.batch import FaceBatch
from contracts.errors import LikenessError
from datamodules.batches.pairs import PairStream, TrainingData
from datamodules.batches.stage import Stage, check_steps
from datamodules.features.registry import Settings
from datamodules.index import Photo, reference_of
from datamodules.samplers import Stream, per_process
from networks.keyed_noise import keyed_generator


@dataclass
class FaceStage(Stage):
    """Batches of aligned faces, which a method learns to generate from their own codes.

    Args:
        steps: Steps of training.
        texts: What is said of any aligned face; one of them is chosen for each.
    """

    steps: int
    texts: list[str]

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if not self.texts:
            raise LikenessError("data.first_stage.texts is empty: give at least one text that is true of any face")

    def features(self, given: Settings) -> Settings:
        """The codes with background, and the latents of the same crops, by the settings of ``wplus``."""
        if "wplus" not in given:
            raise LikenessError(
                "data.first_stage is of aligned faces: add wplus to data.features, or give data.first_stage null"
            )
        wplus = given["wplus"]
        finder = {key: wplus[key] for key in ("detector", "det_size") if key in wplus}
        return {"wplus_background": wplus, "face_moments": finder}

    def stream(self, data: TrainingData) -> "FaceStream":
        return FaceStream(data, self.texts)


@dataclass
class PersonStage(Stage):
    """A short phase on one person in place of the pairs (PIDiff-R, our reading of "identity-tailored").

    Args:
        subject: Tune on the reference photo of this subject alone, of any split.
    """

    subject: str

    def own_photos(self, dataset: Sequence[Photo]) -> list[Photo]:
        """The subject's reference photo.

        Raises:
            LikenessError: the subject has no photo.
        """
        photos = [photo for photo in dataset if photo.subject_id == self.subject]
        if not photos:
            raise LikenessError(f"data.first_stage.subject {self.subject!r} has no photo in the dataset")
        return [reference_of(photos)]

    def stream(self, data: TrainingData) -> "PersonStream":
        (photo,) = self.own_photos(data.dataset)
        return PersonStream(photo, data)

    def training(self, data: TrainingData) -> tuple[Stream, int]:
        stream = self.stream(data)
        return stream, len(stream)


class FaceStream:
    """Batch k of aligned faces: this process's part of it.

    Every photo occurs once per epoch. The code is made with the background, because the face is generated with it. The
    text is one of ``texts``, which say nothing about who or where (W+ Adapter, arXiv 2311.17461, stage 1). All that is
    random in a sample is keyed by (seed, epoch, sample id).

    Raises:
        LikenessError: the batch cannot be divided over the processes.
    """

    def __init__(self, data: TrainingData, texts: Sequence[str]) -> None:
        per_process(data.batch_size, data.count)
        self._data = data
        self._texts = tuple(texts)

    def __getitem__(self, number: int) -> FaceBatch:
        data, features = self._data, self._data.features
        samples = data.samples(number, data.photos)
        timesteps, no_identity, texts = [], [], []
        for epoch, photo in samples:
            draws = keyed_generator("face", data.seed, epoch, photo.id)
            timestep, without_identity, without_text = data.timestep_and_drops(draws)
            timesteps.append(timestep)
            no_identity.append(without_identity)
            text = self._texts[int(torch.randint(len(self._texts), (), generator=draws))]
            texts.append("" if without_text else text)
        photos = [photo for _, photo in samples]
        moments = features.of_photos("face_moments", photos)
        latent = (moments.shape[1] // 2, *moments.shape[2:])
        return FaceBatch(
            sample_ids=tuple(photo.id for photo in photos),
            moments=moments,
            latent_noise=data.noise("face latent", samples, latent),
            noise=data.noise("face diffusion", samples, latent),
            timestep=torch.tensor(timesteps),
            text_states=features.of_texts(texts),
            drop_identity=torch.tensor(no_identity),
            reference={"wplus": features.of_photos("wplus_background", photos)},
        )


class PersonStream(PairStream):
    """Batch k of one photo over and over, target and reference at once, with noise and timestep of its own each time.

    Other people are taken from the training photos. The rest is as in :class:`PairStream`.
    """

    def __init__(self, photo: Photo, data: TrainingData) -> None:
        super().__init__(data)
        self.targets = [photo]

    def views(self, photo: Photo) -> list[Photo]:
        """The photo itself."""
        return [photo]

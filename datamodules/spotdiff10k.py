"""The training data of encoder methods: pocket10k, or any dataset of the schema, as cached features."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from numpy.typing import NDArray
from torch import Tensor

from contracts.batch import FaceBatch, FactorBatch, PairBatch
from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.prompts import PLACEHOLDER, spoken
from contracts.records import Request
from datamodules.batches.faces import FaceStream, PersonStream
from datamodules.batches.pairs import Drops, FactorStream, PairStream, TwoStageStream
from datamodules.batches.subjects import Enrolment, EnrolmentSettings
from datamodules.encode_dataset import fill_photos
from datamodules.features.cache import FeatureCache, content_key
from datamodules.features.encoders import Features, FrozenEncoders, photo_key
from datamodules.image_io import read_square
from datamodules.index import Photo, by_subject, held_out_of, load_photos, read_pictures, reference_of
from datamodules.processes import Processes
from datamodules.requests import RequestLoader, fill_texts
from datamodules.samplers import StepLoader, Stream, share
from datamodules.sources import find_shards


@runtime_checkable
class TakesFeatures(Protocol):
    """A method that says whether it can take the reference features."""

    def check_features(self, shape_of: Callable[[str], tuple[int, ...]]) -> None:
        """Raise ``LikenessError`` where the shape of a feature, by name, is not the one that it takes."""


class SpotDiff10kDataModule(LightningDataModule):
    """Batches of cross-view pairs, preceded by those of a method's first stage: groups for experts, or aligned faces.

    Training batch k is a function of ``seed`` and k: the first ``expert_steps`` batches are ``FactorBatch``es, the next
    ``face_steps`` are ``FaceBatch``es, all others ``PairBatch``es. It is the same for every number of processes, and a
    run resumes with the batch that follows the last one it trained on. Frozen encoders run once for each image and
    text, before training; with a full cache they are not even loaded. Validation is a fixed grid of ``RequestBatch``es.

    Args:
        source: ``pocket10k``, a folder with Parquet shards, or a hub dataset ``owner/name[@revision]``.
        backbone: Folder or hub name of the diffusion model.
        image_encoder: Folder or hub name of the CLIP that reference features come from.
        wplus_encoder: Folder, or e4e checkpoint, of the encoder that W+ codes come from.
        detector: Face pack that finds the face in photos whose landmarks are not known.
        resolution: Side in pixels of the square that images are brought to.
        features: Names of the reference features, see ``encoders.py``.
        batch_size: Pairs per batch over all processes; their number must divide it.
        expert_batch_size: Photos per batch for the experts; every process gets all of them.
        expert_steps: Number of batches for the experts.
        face_steps: Number of batches of aligned faces.
        face_texts: What is said of any aligned face; one of them is drawn for each.
        person: Tune on the reference photo of this subject alone, of any split, without a first stage.
        drop_identity: Share of pairs trained without identity.
        drop_text: Share of pairs trained without text.
        drop_both: Share of pairs trained without either.
        subjects: Train on these subjects of the training split only; with ``enrolment``, enrol these of any split
            (otherwise all of the test split).
        enrolment: Optimise per subject, from its one reference photo, instead of training on pairs.
        validation_prompts: Prompts with the placeholder ``<subject>``; none leaves validation out.
        validation_subjects: How many subjects of the validation split each prompt is drawn for.
        validation_batch_size: Images per validation batch of one process.
        seed: Decides order, references, timesteps, noise and drops.
        num_workers: Loader processes; features come from memory maps, so 0 is enough.
        cache_dir: Where rendered data and features lie; default ``$LIKENESS_CACHE`` or ``~/.cache/likeness``.
        download: Whether a hub dataset may be downloaded.
    """

    def __init__(
        self,
        backbone: str,
        image_encoder: str | None = None,
        wplus_encoder: str | None = None,
        detector: str | None = None,
        source: str = "pocket10k",
        resolution: int = 512,
        features: Sequence[str] = ("clip",),
        batch_size: int = 32,
        expert_batch_size: int = 128,
        expert_steps: int = 0,
        face_steps: int = 0,
        face_texts: Sequence[str] = (),
        person: str | None = None,
        drop_identity: float = 0.05,
        drop_text: float = 0.05,
        drop_both: float = 0.05,
        subjects: list[str] | None = None,
        enrolment: EnrolmentSettings | None = None,
        validation_prompts: Sequence[str] = (),
        validation_subjects: int = 8,
        validation_batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
        cache_dir: str | None = None,
        download: bool = False,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        for name, value in (("batch_size", batch_size), ("resolution", resolution)):
            if value < 1:
                raise LikenessError(f"{name} is {value}, it must be at least 1")
        if subjects is not None and not subjects:
            raise LikenessError("data.subjects is empty: name at least one subject, or give null for all of them")
        for prompt in validation_prompts:
            if prompt.count(PLACEHOLDER) != 1:
                raise LikenessError(f"data.validation_prompts: {prompt!r} must hold {PLACEHOLDER} once")
        self._drops = Drops(drop_identity, drop_text, drop_both)
        self._enrolment_settings = enrolment
        self.enrolment: Enrolment | None = None
        self._source, self._backbone, self._image_encoder, self._resolution = (
            source,
            backbone,
            image_encoder,
            resolution,
        )
        self._wplus_encoder, self._detector = wplus_encoder, detector
        self._face_steps, self._face_texts, self._person = face_steps, tuple(face_texts), person
        if face_steps and "wplus" not in features:
            raise LikenessError("data.face_steps asks for aligned faces: add wplus to data.features, or take it away")
        if person is not None:
            self._face_steps = self._expert_steps = expert_steps = 0
        self._names, self._batch_size, self._expert_batch_size = tuple(features), batch_size, expert_batch_size
        self._expert_steps, self._subjects, self._seed, self._num_workers = expert_steps, subjects, seed, num_workers
        self._prompts, self._validation_subjects = tuple(validation_prompts), validation_subjects
        self._validation_batch_size, self._cache_dir, self._download = (
            validation_batch_size,
            cache_folder(cache_dir),
            download,
        )

    def prepare_data(self) -> None:
        """Render or find the data and check it, once on each machine."""
        load_photos(find_shards(self._source, self._cache_dir, self._download), self._cache_dir)

    def setup(self, stage: str | None = None) -> None:
        """Encode what the cache lacks, the work divided over all processes, which must all call it."""
        photos = load_photos(find_shards(self._source, self._cache_dir), self._cache_dir)
        self.photos = {split: [p for p in photos if p.split == split] for split in ("train", "val", "test")}
        if self._enrolment_settings:
            self.enrolment = Enrolment.plan(
                photos, self._subjects, self._enrolment_settings, self._source, self._seed, self._resolution
            )
        training = self._training_photos()
        alone = self._photo_of(self._person) if self._person is not None else None
        self._validation = self._validation_references()
        processes = Processes.of(self.trainer)
        self._check_resolution()
        encoders = FrozenEncoders(
            self._backbone,
            self._image_encoder,
            self._resolution,
            processes.device,
            self._wplus_encoder,
            self._detector,
        )
        self._features = Features(encoders, self._cache_dir / "features", processes)
        self._rank, self._count, self._latent_shape = processes.rank, processes.count, encoders.latent_shape
        # Encoding may take hours: what is wrong with settings, encoders or batches must not show after it.
        method = getattr(self.trainer, "lightning_module", None)
        if isinstance(method, TakesFeatures):
            processes.together(partial(method.check_features, self._feature_shape))
        self._stream, self._epoch = self._training_stream(training, alone)
        self._fill(training if alone is None or alone in training else [*training, alone])
        encoders.release()

    def _training_stream(self, training: list[Photo], alone: Photo | None) -> tuple[Stream, int]:
        """Training batches by number, and how many an epoch of pairs, or an enrolment, has."""
        if self.enrolment:
            return self.enrolment.stream(self._features, self._rank, self._count), len(self.enrolment)
        settings = (self._names, self._batch_size, self._seed, self._drops, self._rank, self._count)
        pairs = PairStream(training, self._features, *settings)
        if alone is not None:
            pairs = PersonStream(alone, training, self._features, *settings)
        stream: Stream = pairs
        if self._face_steps:
            faces = FaceStream(training, self._features, self._face_texts, *settings[1:])
            stream = TwoStageStream(faces, stream, self._face_steps)
        if self._expert_steps:
            experts = FactorStream(training, self._features, self._names, self._expert_batch_size, self._seed)
            stream = TwoStageStream(experts, stream, self._expert_steps)
        return stream, len(pairs)

    def _check_resolution(self) -> None:
        from networks.backbone import backbone_resolution

        if self._resolution != (side := backbone_resolution(self._backbone)):
            raise LikenessError(
                f"data.resolution is {self._resolution}, the base model {self._backbone} draws {side} x {side} pixels: "
                f"give data.resolution {side}"
            )

    def train_dataloader(self) -> StepLoader[FactorBatch | FaceBatch | PairBatch]:
        """From the position on that the trainer has reached.

        With ``max_steps`` the whole training is one epoch of the trainer, otherwise an epoch has each target once.
        """
        trainer = self.trainer
        if trainer is None:
            length = self._expert_steps + self._face_steps + self._epoch
            return StepLoader(self._stream, length, lambda: 0, self._num_workers)
        length = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else self._epoch
        # Read from the loop when iteration starts: by then a checkpoint has been restored.
        progress = cast(ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.total)
        return StepLoader(self._stream, length, lambda: progress.processed, self._num_workers)

    def val_dataloader(self) -> RequestLoader | list:
        """This process's share of the grid of validation prompts and subjects."""
        if not self._prompts:
            return []
        requests = self.validation_requests()
        return RequestLoader(
            share(requests, self._rank, self._count),
            self._features,
            self._latent_shape,
            {s: {name: photo_key(name, photo) for name in self._names} for s, photo in self._validation.items()},
            self.class_nouns,
            self._names,
            self._seed,
            self._validation_batch_size,
            largest=len(share(requests, 0, self._count)),
        )

    def feature_mean(self, name: str) -> Tensor:
        """The mean (D,) of a reference feature over the training photos; available after :meth:`setup`.

        Raises:
            LikenessError: the feature is none of ``features``.
        """
        rows = self._feature(name).rows([photo_key(name, photo) for photo in self._training_photos()])
        return rows.float().mean(dim=0)

    def _feature(self, name: str) -> FeatureCache:
        self._check_name(name)
        return self._features[name]

    def _feature_shape(self, name: str) -> tuple[int, ...]:
        self._check_name(name)
        return self._features.reference_shape(name)

    def _check_name(self, name: str) -> None:
        if name not in self._names:
            raise LikenessError(f"data.features is {list(self._names)}, the method needs {name!r}")

    @property
    def class_nouns(self) -> dict[str, str]:
        """What each subject of the dataset is called in plain text; after :meth:`setup`."""
        return {photo.subject_id: photo.subject_class for photos in self.photos.values() for photo in photos}

    @property
    def encoder_fingerprints(self) -> dict[str, str]:
        """What each cached feature depends on (weights, preprocessing, aligner), by name; after :meth:`setup`."""
        return self._features.fingerprints()

    def validation_held_out(self) -> dict[str, NDArray[np.uint8]]:
        """Held-out photos (K, H, W, 3) RGB of each validation subject: other pose and background than its reference."""
        groups = by_subject(self._validation_photos())
        wanted = {subject: held_out_of(groups[subject]) for subject in self._validation}
        pixels = {
            p.photo.id: read_square(p.image, f"image {p.photo.id}", self._resolution)
            for p in read_pictures(photo for photos in wanted.values() for photo in photos)
        }
        return {subject: np.stack([pixels[p.id] for p in photos]) for subject, photos in wanted.items()}

    def validation_requests(self) -> list[Request]:
        """The whole grid, one sample for each prompt and subject."""
        return [
            Request(subject, f"v{i:02d}", prompt, "validation", 0)
            for i, prompt in enumerate(self._prompts)
            for subject in self._validation
        ]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids and captions of the training photos; available after :meth:`setup`."""
        return content_key("\n".join(f"{p.id} {p.caption}" for p in self._training_photos()))

    def state_dict(self) -> dict[str, Any]:
        """What decides the training batches; the position among them is the trainer's own count."""
        return {
            "seed": self._seed,
            "batch_size": self._batch_size,
            "expert_batch_size": self._expert_batch_size,
            "expert_steps": self._expert_steps,
            "drops": [self._drops.identity, self._drops.text, self._drops.both],
            "face_steps": self._face_steps,
            "face_texts": list(self._face_texts) if self._face_steps else [],
            "person": self._person,
            "enrolment": self.enrolment.to_json() if self.enrolment else {},
            "data": self.fingerprint,
            "encoder": self.encoder_fingerprints,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a checkpoint was trained on the same batches, made by the same encoders.

        Raises:
            LikenessError: it was not. The message names what differs.
        """
        theirs, ours = _flat(state_dict), _flat(self.state_dict())
        for name in sorted({**ours, **theirs}, key=_hashed):  # settings say more than the data that follow from them
            if theirs.get(name) != ours.get(name):
                shown = "" if _hashed(name) else f" ({theirs.get(name)} there, {ours.get(name)} here)"
                raise LikenessError(
                    f"the checkpoint was trained with other batches: `{name}` differs{shown}; take another --output, "
                    "or the settings it was made with"
                )

    def _photo_of(self, subject: str) -> Photo:
        """The reference photo of a subject of any split."""
        photos = [p for split in self.photos.values() for p in split if p.subject_id == subject]
        if not photos:
            raise LikenessError(f"data.person {subject!r} has no photo in {self._source!r}")
        return reference_of(photos)

    def _training_photos(self) -> list[Photo]:
        if self.enrolment:
            return list(self.enrolment.references.values())
        photos = self.photos["train"]
        if not photos:
            raise LikenessError(f"the training split of {self._source!r} is empty (column `split`)")
        if self._subjects is None:
            return photos
        known = {photo.subject_id for photo in photos}
        for subject in self._subjects:
            if subject not in known:
                raise LikenessError(f"subject {subject!r} is not in the training split of {self._source!r}")
        return [photo for photo in photos if photo.subject_id in self._subjects]

    def _validation_references(self) -> dict[str, Photo]:
        """The reference photo of each validation subject."""
        if not self._prompts:
            return {}
        groups = by_subject(self._validation_photos())
        if not groups:
            raise LikenessError(f"the validation split of {self._source!r} is empty, and there are validation_prompts")
        return {subject: reference_of(groups[subject]) for subject in sorted(groups)[: self._validation_subjects]}

    def _validation_photos(self) -> list[Photo]:
        """Those of the validation split; in an enrolment, of the subjects that are enrolled first."""
        if not self.enrolment:
            return self.photos["val"]
        everything = [photo for photos in self.photos.values() for photo in photos]
        return [photo for photo in everything if photo.subject_id in self.enrolment.groups[0]]

    def _fill(self, training: list[Photo]) -> None:
        nouns = self.class_nouns
        fill_texts(
            self._features,
            ["", *(photo.caption for photo in training), *self._face_texts]
            + [spoken(prompt, s, nouns) for prompt in self._prompts for s in self._validation],
        )
        references = list(self._validation.values())
        fill_photos(self._features, training, references, self._names, self._resolution, aligned=self._face_steps > 0)


def _hashed(name: str) -> bool:
    return name == "data" or name.startswith("encoder.")


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the entries of a part on their own: ``part.name``."""
    flat: dict[str, Any] = {}
    for name, value in state.items():
        flat |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat

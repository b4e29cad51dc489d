"""The training data of encoder methods: pocket10k, or any dataset of the schema, as cached features."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from lightning.pytorch import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.prompts import spoken
from contracts.records import Request
from datamodules.batches.pairs import Drops, Pairs, PairStream, TrainingData
from datamodules.batches.stage import Stage
from datamodules.batches.subjects import Enrolment, EnrolmentSettings
from datamodules.chosen import ChosenPhotos
from datamodules.features.base import EncoderContext
from datamodules.features.registry import check_settings, known_settings
from datamodules.features.store import Features
from datamodules.index import Photo, load_photos
from datamodules.processes import Processes
from datamodules.requests import RequestLoader
from datamodules.samplers import StepLoader, Stream, check_same_batches, share
from datamodules.sources import find_shards
from datamodules.validation import ValidationGrid, ValidationSettings
from metrics.gallery import SubjectPhotos

BASE_FEATURES = ("moments", "text", "mask", "face")
"""What the base model's own parts make of training photos, whatever the method reads."""

DROPS = Drops()
NO_VALIDATION = ValidationSettings()


@runtime_checkable
class TakesFeatures(Protocol):
    """A method that says whether it can take the reference features."""

    def check_features(self, shape_of: Callable[[str], tuple[int, ...]]) -> None:
        """Raise ``LikenessError`` where the shape of a feature, by name, is not the one that it takes."""


class SpotDiff10kDataModule(LightningDataModule):
    """Batches of cross-view pairs, after those of a method's first stage where it has one.

    Training batch k is a function of ``seed`` and k. It is the same for every number of processes, and a run resumes
    with the batch that follows the last one it trained on. Frozen encoders run once for each image and text, before
    training; with a full cache they are not even loaded. Validation is a fixed grid of ``RequestBatch``es.

    After :meth:`setup`, ``batches[k]`` is this process's part of training batch k, ``features`` are the filled caches,
    ``photos`` the dataset's photos by split, and ``enrolment`` says who is enrolled (``None`` without the setting).

    Args:
        backbone: Folder or hub name of the diffusion model.
        source: ``pocket10k``, a folder with Parquet shards, the DreamBooth data set's folder, or a hub dataset
            ``owner/name[@revision]``.
        resolution: Side in pixels of the square that images are brought to.
        features: The reference features that the method reads, and the settings of each: ``{clip: {encoder: FOLDER}}``;
            the fields of its class in ``datamodules/features``.
        batch_size: Samples per batch over all processes; their number must divide it.
        first_stage: What the method trains on before the pairs, or in their place: a class of ``datamodules/batches``.
        drops: Shares of samples that are trained without identity, text or both.
        pairs: `cross` takes as reference another photo of the target's subject, in another pose and background; `same`
            the target itself, as methods before cross-view training did: what is not the subject then leaks.
        subjects: Train on these subjects of the training split only; with ``enrolment``, enrol these of any split
            (otherwise all of the test split).
        enrolment: Optimise per subject, from its reference photos, instead of training on pairs.
        validation: The grid of prompts and subjects; without prompts there is no validation.
        seed: Decides order, references, timesteps, noise and drops.
        num_workers: Loader processes; features come from memory maps, so 0 is enough.
        cache_dir: Where rendered data and features lie; default ``$LIKENESS_CACHE`` or ``~/.cache/likeness``.
        download: Whether a hub dataset may be downloaded.
    """

    features: Features
    batches: Stream
    photos: dict[str, list[Photo]]

    def __init__(
        self,
        *,
        backbone: str,
        source: str = "pocket10k",
        resolution: int = 512,
        features: dict[str, dict[str, Any]] | None = None,
        batch_size: int = 32,
        first_stage: Stage | None = None,
        drops: Drops = DROPS,
        pairs: Pairs = "cross",
        subjects: list[str] | None = None,
        enrolment: EnrolmentSettings | None = None,
        validation: ValidationSettings = NO_VALIDATION,
        seed: int = 0,
        num_workers: int = 0,
        cache_dir: str | None = None,
        download: bool = False,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        for name, value in (("batch_size", batch_size), ("resolution", resolution)):
            if value < 1:
                raise LikenessError(f"data.{name} is {value}, it must be at least 1")
        if subjects is not None and not subjects:
            raise LikenessError("data.subjects is empty: name at least one subject, or give null for all of them")
        given = features or {}
        check_settings(given)
        self.enrolment: Enrolment | None = None
        self._backbone = backbone
        self._source = source
        self._resolution = resolution
        self._names = tuple(given)
        self._stage_features = first_stage.features(given) if first_stage else {}
        self._feature_settings = {**given, **self._stage_features}
        self._batch_size = batch_size
        self._first_stage = first_stage
        self._drops = drops
        self._pairs = pairs
        self._subjects = subjects
        self._enrolment_settings = enrolment
        self._validation_settings = validation
        self._seed = seed
        self._num_workers = num_workers
        self._cache_dir = cache_folder(cache_dir)
        self._download = download

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
        self._chosen = ChosenPhotos.of(photos, self._source, self._subjects, self.enrolment)
        training = self._chosen.training
        own = self._first_stage.own_photos(photos) if self._first_stage else []
        self._validation = ValidationGrid(self._validation_settings, self._chosen.validation, self._source)
        self._processes = Processes.of(self.trainer)
        self._check_resolution()
        context = EncoderContext(self._backbone, self._resolution, self._processes.device)
        method = getattr(self.trainer, "lightning_module", None)
        self._share_backbone(context, getattr(method, "backbone", None))
        names = [*BASE_FEATURES, *self._feature_settings]
        folder = self._cache_dir / "features"
        self.features = Features(names, self._feature_settings, context, folder, self._processes)
        # Encoding may take hours: what is wrong with settings, encoders or batches must not show after it.
        if isinstance(method, TakesFeatures):
            self._processes.together(partial(method.check_features, self._feature_shape))
        self.batches, self._epoch = self._training_batches(
            TrainingData(
                photos=training,
                dataset=photos,
                features=self.features,
                names=self._names,
                batch_size=self._batch_size,
                seed=self._seed,
                drops=self._drops,
                pairs=self._pairs,
                rank=self._processes.rank,
                count=self._processes.count,
                accumulate=getattr(self.trainer, "accumulate_grad_batches", 1),
            )
        )
        training = [*training, *(photo for photo in own if photo not in training)]
        self.features.check_photos(self._names, [*training, *self._validation.references.values()])
        self.features.check_photos(self._stage_features, training)
        self._fill(training)
        context.release()

    def _training_batches(self, data: TrainingData) -> tuple[Stream, int]:
        """Training batches by number, and how many an epoch of pairs, or an enrolment, has."""
        self.training_data = data
        if self.enrolment:
            return self.enrolment.stream(data.features, data.rank, data.count), len(self.enrolment)
        if self._first_stage:
            return self._first_stage.training(data)
        pairs = PairStream(data)
        return pairs, len(pairs)

    def _share_backbone(self, context: EncoderContext, held: object) -> None:
        """Encode with the base model that the method ``held`` already, where it is the same one."""
        from networks.backbone import Backbone, backbone_fingerprint, load_backbone

        if isinstance(held, Backbone) and held.fingerprint == backbone_fingerprint(self._backbone):
            context.lend(load_backbone, self._backbone, held)

    def _check_resolution(self) -> None:
        from networks.backbone import backbone_resolution

        if self._resolution != (side := backbone_resolution(self._backbone)):
            raise LikenessError(
                f"data.resolution is {self._resolution}, the base model {self._backbone} generates {side} x {side} "
                f"pixels: give data.resolution {side}"
            )

    def train_dataloader(self) -> StepLoader:
        """From the position on that the trainer has reached.

        With ``max_steps`` the whole training is one epoch of the trainer, otherwise an epoch has each target once.
        """
        trainer = self.trainer
        if trainer is None:
            length = (self._first_stage.steps if self._first_stage else 0) + self._epoch
            return StepLoader(self.batches, length, lambda: 0, self._num_workers)
        length = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else self._epoch
        # Read from the loop when iteration starts: by then a checkpoint has been restored.
        progress = cast(ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.total)
        pinned = self._processes.device.type == "cuda"
        return StepLoader(self.batches, length, lambda: progress.processed, self._num_workers, pinned)

    def val_dataloader(self) -> RequestLoader | list:
        """This process's share of the grid of validation prompts and subjects."""
        requests = self.validation_requests()
        if not requests:
            return []
        rank, count = self._processes.rank, self._processes.count
        references = self._validation.references.items()
        return RequestLoader(
            share(requests, rank, count),
            self.features,
            {subject: [self.features.keys(self._names, photo)] for subject, photo in references},
            self.class_nouns,
            self._names,
            self._seed,
            self._validation_settings.batch_size,
            largest=len(share(requests, 0, count)),
        )

    def feature_mean(self, name: str) -> Tensor:
        """The mean (D,) of a reference feature over the training photos; available after :meth:`setup`.

        Raises:
            LikenessError: the feature is none of ``features``.
        """
        return self.training_features(name).mean(dim=0)

    def training_features(self, name: str) -> Tensor:
        """A reference feature (N, D) of the training photos; available after :meth:`setup`.

        Raises:
            LikenessError: the feature is none of ``features``.
        """
        self._check_name(name)
        return self.features.of_photos(name, self._chosen.training).float()

    def _feature_shape(self, name: str) -> tuple[int, ...]:
        self._check_name(name)
        return self.features.shape(name)

    def _check_name(self, name: str) -> None:
        if name not in self._names:
            known = ", ".join(known_settings(name))
            raise LikenessError(
                f"data.features has {', '.join(self._names) or 'no feature'}, the method needs {name!r}: give "
                f"data.features.{name} with its settings ({known})"
            )

    @property
    def cache_folder(self) -> Path:
        """Where rendered data and features lie, and what a method keeps beside them."""
        return self._cache_dir

    @property
    def class_nouns(self) -> dict[str, str]:
        """What each subject of the dataset is called in plain text; after :meth:`setup`."""
        return self._chosen.nouns

    @property
    def encoder_fingerprints(self) -> dict[str, str]:
        """What each cached feature depends on (weights, preprocessing, aligner), by name; after :meth:`setup`."""
        return self.features.fingerprints()

    def validation_photos(self) -> list[SubjectPhotos]:
        """Reference and held-out photos of each validation subject, with what is known of them."""
        return self._validation.subject_photos(self._resolution)

    def validation_requests(self) -> list[Request]:
        """The whole grid, one sample for each prompt and subject."""
        return self._validation.requests()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over contents, names and captions of the training photos; available after :meth:`setup`."""
        return self._chosen.fingerprint

    def state_dict(self) -> dict[str, Any]:
        """What decides the training batches; the position among them is the trainer's own count."""
        return {
            "seed": self._seed,
            "batch_size": self._batch_size,
            "first_stage": self._first_stage.to_json() if self._first_stage else {},
            "drops": asdict(self._drops),
            "pairs": self._pairs,
            "enrolment": self.enrolment.to_json() if self.enrolment else {},
            "data": self.fingerprint,
            "encoder": self.encoder_fingerprints,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a checkpoint was trained on the same batches, made by the same encoders.

        Raises:
            LikenessError: it was not. The message names what differs.
        """
        check_same_batches(self.state_dict(), state_dict)

    def _fill(self, training: list[Photo]) -> None:
        nouns, stage = self.class_nouns, self._first_stage
        prompts = [spoken(request.prompt, request.subject, nouns) for request in self.validation_requests()]
        self.features.fill_texts(
            ["", *(photo.caption for photo in training), *(stage.texts if stage else ()), *prompts]
        )
        references = self._validation.references.values()
        self.features.fill_photos(["moments", *self._names], [*training, *references])
        self.features.fill_photos(["mask"], training)
        if self.features.of_faces(self._names):
            self.features.fill_photos(["face"], training)
        if self._stage_features:
            self.features.fill_photos(list(self._stage_features), training)

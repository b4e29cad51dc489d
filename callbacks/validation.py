"""The leaderboard's metrics while training, on a small fixed grid, generated and judged by all processes."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

from collections.abc import Mapping, Sequence

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from callbacks.trainer import Trainer
from contracts.batch import RequestBatch
from contracts.errors import LikenessError
from contracts.settings import JudgeSettings
from metrics.base import NEEDS, Metric, Need
from metrics.gallery import Gallery, SubjectPhotos, unknown_factors
from metrics.judges import JudgedImages, Judges, Observation, make_galleries
from metrics.registry import METRICS, metrics_of
from metrics.state import MetricState

_LACKING: frozenset[Need] = frozenset({"samples", "photos"})
"""What validation does not have: several samples of a prompt, and a set of photos to compare a whole set with."""


def validation_metrics(judges: JudgeSettings) -> list[Metric]:
    """The metrics that a validation with these judges measures, where the factors of the photos are known."""
    return metrics_of(judges, NEEDS - _LACKING)


class ValidationScores(L.Callback):
    """Judges the images that ``validation_step`` generates, with the judges and metrics that ``evaluate.py`` uses.

    Logs ``val/NAME`` for every metric of single images that these judges measure, exact over all processes (the
    progress bar shows those of the narrow table), and a grid of images to TensorBoard: a row for each subject, first
    its reference photo, then its prompts. A subject without a face, as the dataset says, has no identity; fitting does
    not start where one with a face shows none.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self._judges = Judges(**vars(settings))  # here, as a missing one must not show after the data are encoded
        self._states: dict[str, MetricState] = {}
        self._galleries: dict[str, Gallery] = {}
        self._images: dict[str, NDArray[np.uint8]] = {}
        self._references: dict[str, NDArray[np.uint8]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: L.LightningModule) -> None:
        data = trainer.datamodule
        self._nouns = data.class_nouns
        self._requests = {request.id: request for request in data.validation_requests()}
        subjects = data.validation_photos()
        if not subjects:  # there are no prompts, and so no validation
            return
        for network in (self._judges.clip, self._judges.image, self._judges.lpips):
            if network is not None:
                network.to(pl_module.device)
        seen = {subject.id: self._judges.observe_photos(subject) for subject in subjects}
        self._check(subjects, seen)
        self._galleries = make_galleries(subjects, seen)
        self._references = {subject.id: subject.reference for subject in subjects}
        requests = list(self._requests.values())
        metrics = metrics_of(self._settings, NEEDS - _LACKING - unknown_factors(subjects))
        self._states = {m.name: MetricState(m, requests).to(pl_module.device) for m in metrics}

    def _check(self, subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]) -> None:
        for subject in subjects:
            if subject.has_face and not seen[subject.id].judged.found[1:].any():
                raise LikenessError(
                    f"no held-out photo of validation subject {subject.id} shows a face to judges.faces: "
                    "give it other photos, take it out of the dataset's split val, or say `has_face` false of it"
                )

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for state in self._states.values():
            state.reset()
        self._images.clear()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor,
        batch: RequestBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        images = outputs.cpu().numpy()
        requests = [self._requests[request_id] for request_id in batch.request_ids]
        galleries = [self._galleries[request.subject] for request in requests]
        judged = JudgedImages.judge(self._judges, images, requests, galleries, self._nouns)
        for state in self._states.values():
            state.update(judged)
        self._images.update(zip(batch.request_ids, images, strict=True))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # compute() is collective: every process calls it, also one that generated nothing.
        for name, state in self._states.items():
            value = state.compute()
            if not value.isnan():  # as identity is where all subjects are objects
                pl_module.log(f"val/{name}", value.float(), prog_bar=METRICS[name].headline, rank_zero_only=True)
        self._show(trainer)

    @rank_zero_only
    def _show(self, trainer: L.Trainer) -> None:
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if self._images and boards:
            rows: dict[str, list[NDArray[np.uint8]]] = {}
            for request_id in sorted(self._images):
                subject = self._requests[request_id].subject
                rows.setdefault(subject, [self._references[subject]]).append(self._images[request_id])
            widest = max(map(len, rows.values()))
            blank = np.full_like(next(iter(self._images.values())), 255)
            grid = [np.concatenate([*row, *[blank] * (widest - len(row))], axis=1) for row in rows.values()]
            for board in boards:
                board.add_image("val/images", np.concatenate(grid), trainer.global_step, dataformats="HWC")

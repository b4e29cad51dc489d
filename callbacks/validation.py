"""Identity and CLIP-T while training, on a small fixed grid, drawn and judged by all processes."""

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from contracts.batch import RequestBatch
from contracts.errors import LikenessError
from contracts.prompts import plain_prompt
from metrics.clip_score import ClipScore
from metrics.functional.identity import gallery_mean
from metrics.identity import IdentityPreservation
from metrics.judges import Judges


class ValidationScores(L.Callback):
    """Judges the images that ``validation_step`` draws, with the judges and metrics that ``evaluate.py`` uses.

    Logs ``val/detection_rate``, ``val/identity_given_detection``, ``val/identity_misses_zero`` and ``val/clip_t``,
    exact over all processes, and a grid of images (subjects x prompts) to TensorBoard. ``faces`` and ``clip``
    are the judges' folders. CLIP reads each subject's class noun in place of the placeholder. A class none of whose
    photos shows a face has no identity; fitting does not start where a subject of another class shows none.
    """

    def __init__(self, faces: str, clip: str) -> None:
        self._faces = faces
        self._judges = Judges(faces, clip)  # here, as a missing one must not show after the data are encoded
        self._identity, self._clip_t = IdentityPreservation(), ClipScore()
        self._galleries: dict[str, Tensor] = {}
        self._images: dict[str, NDArray[np.uint8]] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._nouns = trainer.datamodule.class_nouns  # type: ignore[attr-defined]
        held_out = trainer.datamodule.validation_held_out()  # type: ignore[attr-defined]
        judged = {subject: self._judges.faces.judge(photos) for subject, photos in held_out.items()}
        with_faces = {self._nouns[subject] for subject, faces in judged.items() if faces.found.any()}
        self._galleries = {}
        for subject, faces in judged.items():
            if faces.found.any():
                self._galleries[subject] = gallery_mean(torch.from_numpy(faces.embeddings[faces.found]))
            elif self._nouns[subject] in with_faces:
                raise LikenessError(
                    f"no held-out photo of validation subject {subject} shows a face to the judge {self._faces}: "
                    f"give the subject other photos, or take it out of the dataset's split val"
                )
        for part in (self._identity, self._clip_t, self._judges.clip):
            part.to(pl_module.device)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._identity.reset()
        self._clip_t.reset()
        self._images.clear()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor,  # type: ignore[override]
        batch: RequestBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        images = outputs.cpu().numpy()
        seen = self._judges.observe(images)
        known = [i for i, subject in enumerate(batch.subjects) if subject in self._galleries]
        if known:
            self._identity.update(
                torch.from_numpy(seen.features["faces"][known]).to(pl_module.device),
                torch.from_numpy(seen.judged.found[known]).to(pl_module.device),
                torch.stack([self._galleries[batch.subjects[i]] for i in known]).to(pl_module.device),
            )
        texts = [plain_prompt(*both, self._nouns) for both in zip(batch.prompts, batch.subjects, strict=True)]
        words, _ = self._judges.clip.text_features(texts)
        self._clip_t.update(torch.from_numpy(seen.features["clip"]).to(pl_module.device), words)
        self._images.update(zip(batch.request_ids, images, strict=True))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # compute() is collective: every process calls it, also one that drew nothing.
        values = {"clip_t": self._clip_t.compute(), **(self._identity.compute() if self._galleries else {})}
        pl_module.log_dict(
            {f"val/{name}": value.float() for name, value in values.items()}, prog_bar=True, rank_zero_only=True
        )
        self._show(trainer)

    @rank_zero_only
    def _show(self, trainer: L.Trainer) -> None:
        experiment = getattr(trainer.logger, "experiment", None)
        if self._images and hasattr(experiment, "add_image"):
            rows: dict[str, list[NDArray[np.uint8]]] = {}
            for request_id in sorted(self._images):
                rows.setdefault(request_id.split(".")[0], []).append(self._images[request_id])
            widest = max(map(len, rows.values()))
            blank = np.full_like(next(iter(self._images.values())), 255)
            grid = [np.concatenate([*row, *[blank] * (widest - len(row))], axis=1) for row in rows.values()]
            experiment.add_image(  # type: ignore[union-attr]
                "val/images", np.concatenate(grid), trainer.global_step, dataformats="HWC"
            )

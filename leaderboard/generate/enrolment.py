"""Enrolling a subject for ``generate.py`` with a method that optimises per subject.

It is a training like any other, of one subject alone, in a run folder of its own. The folder lies in the cache under
the hash of all that decides what is learnt, so a subject is enrolled once and an enrolment that was stopped goes on.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import yaml

from callbacks.checkpoint_io import DurableCheckpointIO, latest_checkpoint
from callbacks.checkpoints import Checkpoints
from callbacks.interruption import ends_when_told
from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.lock import folder_lock
from datamodules.batches.subjects import EnrolmentSettings
from datamodules.features.registry import run_features
from datamodules.image_io import read_square
from datamodules.spotdiff10k import SpotDiff10kDataModule
from leaderboard.generate.given_subjects import DatasetSubject, GivenPhoto, GivenSubject, first_of
from lightning_modules.run import Run
from networks.backbone import backbone_fingerprint, backbone_resolution
from networks.face_analysis import FacePack
from training.resuming import prepare
from training.trainer import RunTrainer, callbacks_of_every_run

CHECKPOINT_EVERY = 50
"""Steps between checkpoints, of which little is lost where a person waits."""


class SubjectRun:
    """The enrolment of one subject, as ``run`` would enrol it.

    Args:
        run: A finished run of a method that optimises per subject; only its configuration counts.
        subject: Whom to enrol.
        backbone: Folder or hub name of the base model.
        steps: Steps, instead of those of the run.
        references: Photos to learn from, instead of all that are given.
    """

    def __init__(
        self, run: Run, subject: GivenSubject, backbone: str, steps: int | None, references: int | None = None
    ) -> None:
        self.subject = subject
        self._run, self._backbone, self._references = run, backbone, references
        self._settings = self._enrolment(steps)
        self._references = references or self._settings.references
        self._seed = run.data.get("seed", 0)
        trainer = run.config.get("trainer") or {}
        self._trainer: dict[str, Any] = {name: trainer.get(name) for name in ("precision", "gradient_clip_val")}
        self._trainer["precision"] = self._trainer["precision"] or "32-true"

    @property
    def steps(self) -> int:
        """Optimisation steps."""
        return self._settings.steps

    @property
    def key(self) -> str:
        """The hash of all that decides what is learnt."""
        decided = {
            "method": self._run.training_hash,
            "backbone": backbone_fingerprint(self._backbone),
            "steps": self.steps,
            "prompts": self._settings.prompts,
            "seed": self._seed,
            "trainer": self._trainer,
            "subject": [self.subject.id, self.subject.noun, *self.subject.photo_keys(self._references)],
            **({"references": self._references} if self._references else {}),
        }
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def enrolled(self) -> Run:
        """The run folder, which need not be there yet."""
        return Run(cache_folder() / "enrolled" / self.key)

    @property
    def done(self) -> bool:
        """Whether the subject is enrolled."""
        return self.enrolled.adapter_file.is_file() and self.enrolled.manifest_file.is_file()

    @cached_property
    def photos(self) -> tuple[GivenPhoto, ...]:
        """What is trained on: where the class needs a face, the photos that show one.

        Raises:
            LikenessError: none does, or fewer than are asked for.
        """
        fitting = self._fitting()
        return tuple(first_of(fitting, self._references, self.subject.id))

    def _fitting(self) -> tuple[GivenPhoto, ...]:
        side = backbone_resolution(self._backbone)
        given = tuple(self.subject.references(side, self._references))
        if self._settings.faces is None or self.subject.noun not in self._settings.face_classes:
            return given
        pack = FacePack(self._settings.faces, self._settings.det_size)
        fitting = tuple(p for p in given if pack.judge(read_square(p.data, p.name, side)[None]).found[0])
        if not fitting:
            raise LikenessError(
                f"{given[0].name} shows no face, which {self._run} needs for the class {self.subject.noun!r} "
                "(data.enrolment.face_classes): give another photo, or its class as NOUN=FILE"
            )
        return fitting

    def enrol(self, device: str) -> None:
        """Optimise, under a progress bar, from the latest checkpoint on, unless the subject is enrolled by now.

        Raises:
            LikenessError: the photo or the settings do not fit the method, the optimisation failed, or another process
                enrols the subject.
        """
        with folder_lock(self.enrolled.folder):
            if not self.done:
                self._optimise(device)

    def _optimise(self, device: str) -> None:
        folder = self.enrolled.folder
        data = self._data(self.subject.data_source(self.photos, folder / "photos"))
        arguments = {**self._run.arguments, "backbone": self._backbone}
        model = {"class_path": self._run.class_path, "init_args": arguments}
        config = {"seed_everything": self._seed, "model": model, "data": data, "trainer": self._trainer}
        enrolled = prepare(folder)
        trainer = RunTrainer(
            accelerator=device,
            devices=1,
            max_epochs=1,
            num_sanity_val_steps=0,
            callbacks=callbacks_of_every_run(
                enrolled, yaml.safe_dump(config), Checkpoints(enrolled, CHECKPOINT_EVERY, keep=1)
            ),
            plugins=[DurableCheckpointIO()],
            default_root_dir=str(folder),
            logger=False,
            enable_model_summary=False,
            **self._trainer,
        )
        enrolment = {"enrolment": EnrolmentSettings(**data["enrolment"])}
        with ends_when_told(trainer):
            trainer.fit(
                self._run.method(**arguments),
                datamodule=SpotDiff10kDataModule(**{**data, **enrolment}),
                ckpt_path=latest_checkpoint(folder / "checkpoints"),
                weights_only=True,
            )
        # A person's photo does not stay in the cache.
        for what_is_used_up in ("checkpoints", "adapters", "starts", "photos"):
            shutil.rmtree(folder / what_is_used_up, ignore_errors=True)

    def _data(self, source: str) -> dict[str, Any]:
        """Arguments of the DataModule as a configuration has them."""
        return {
            "backbone": self._backbone,
            "source": source,
            "resolution": backbone_resolution(self._backbone),
            "features": run_features(self._run.data),
            "subjects": [self.subject.id],
            "enrolment": vars(self._settings),
            "seed": self._seed,
        }

    def _enrolment(self, steps: int | None) -> EnrolmentSettings:
        given = self._run.data.get("enrolment")
        if not isinstance(given, Mapping):
            raise LikenessError(f"{self._run.config_file} has no data.enrolment: {self._run} enrolled nobody")
        own: dict[str, int | None] = {} if steps is None else {"steps": steps}
        # A user's photos are all given as references, of which those to learn from were chosen.
        if not isinstance(self.subject, DatasetSubject):
            own["references"] = None
        elif self._references is not None:
            own["references"] = self._references
        try:
            return EnrolmentSettings(**{**given, **own, "at_once": 1})
        except TypeError as error:
            raise LikenessError(f"{self._run.config_file}: data.enrolment: {error}") from error

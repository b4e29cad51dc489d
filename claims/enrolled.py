"""Runs of SeFi-IDE that differ in one setting, and what their images show: identity, prompt fit, attention."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

import train
from claims.measurements import BATCH, Values, identities, subject_galleries
from contracts.errors import LikenessError
from contracts.prompts import spoken
from contracts.protocol import Prompt
from datamodules.features.cache import content_key
from datamodules.requests import request_batch
from datamodules.subjects import SubjectPhotos, load_subjects
from leaderboard.plan.prompts import read_prompts
from lightning_modules.base import PersonalisationModule
from lightning_modules.run import Run
from lightning_modules.sefi_ide import SefiIDE
from metrics.functional.clip_t import clip_t
from networks.backbone import backbone_fingerprint
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack
from pocket.models import paths

CONFIG = "configs/pocket/sefi_ide.yaml"
PROMPTS = "configs/prompts/pocket.yaml"
Wanted = tuple[SubjectPhotos, Prompt, int]
"""Subject, prompt and sample of an image."""


def enrolled(work: Path, name: str, subjects: Sequence[str], settings: Mapping[str, object]) -> SefiIDE:
    """The run ``name`` below ``work``: the pocket configuration with other ``settings`` (keys of the command line).

    It is trained if it is not there yet. The name of its folder ends with a hash of all that decides the run. So a run
    of an older configuration or base model is never taken for it.
    """
    changes = {**settings, "data.subjects": json.dumps(list(subjects)), "data.validation.prompts": "[]"}
    folder = work / f"{name}-{_deciding(changes)}"
    run = Run(folder)
    if not run.adapter_file.is_file():
        quiet = {"judges": "null", "trainer.enable_progress_bar": "false", "trainer.enable_model_summary": "false"}
        arguments = [f"--{key}={value}" for key, value in {**changes, **quiet}.items()]
        train.train([f"--config={CONFIG}", f"--output={folder}", *arguments])
    module = run.load()
    if not isinstance(module, SefiIDE):
        raise LikenessError(f"{str(folder)!r} is no run of SeFi-IDE")
    return module


def _deciding(changes: Mapping[str, object]) -> str:
    """10 hex digits over the pocket configuration, what is changed in it, and the base model's weights."""
    config = yaml.safe_load(Path(CONFIG).read_text())
    decided = {part: config[part] for part in ("seed_everything", "model", "data", "trainer")}
    about = [
        decided,
        sorted((key, str(value)) for key, value in changes.items()),
        backbone_fingerprint(str(paths.BASE)),
    ]
    return content_key(json.dumps(about, sort_keys=True))[:10]


@dataclass(frozen=True)
class RunMeasurements:
    """Means over each subject's images of a run, (S,) each, or (K, S) of K trainings.

    Attributes:
        identity: Cosine to held-out photos. An image without a face counts as 0.
        prompt: CLIP-T by class of prompt, and over all prompts under ``all``.
    """

    identity: Values
    prompt: dict[str, Values]

    @classmethod
    def stacked(cls, trainings: Sequence["RunMeasurements"]) -> "RunMeasurements":
        """Those of K trainings as one."""
        prompt = {name: np.stack([one.prompt[name] for one in trainings]) for name in trainings[0].prompt}
        return cls(np.stack([one.identity for one in trainings]), prompt)


class ProtocolSampler:
    """Generates every prompt of the pocket protocol for some subjects, and judges the images."""

    def __init__(self, subjects: Sequence[str], samples: int, resolution: int) -> None:
        self.subjects: list[SubjectPhotos] = load_subjects("pocket10k", list(subjects), resolution)
        self._prompts = read_prompts(PROMPTS)
        self._samples = samples
        self._faces = FacePack(paths.FACES_B, paths.DET_SIZE)
        self._clip = ClipJudge(str(paths.CLIP))
        self._nouns = {subject.id: subject.noun for subject in self.subjects}
        self._galleries = subject_galleries(self._faces, {subject.id: subject.held_out for subject in self.subjects})

    def measure(self, module: PersonalisationModule) -> RunMeasurements:
        """Generate and judge. Noise is keyed by subject, prompt and sample, so it is the same for every run."""
        wanted = [(s, p, i) for s in self.subjects for p in self._prompts for i in range(self._samples)]
        identity = np.empty(len(wanted))
        fit = np.empty(len(wanted))
        for first in range(0, len(wanted), BATCH):
            here = slice(first, first + BATCH)
            part = wanted[here]
            images = self._generate(module, part)
            identity[here] = identities(self._faces.judge(images), [self._galleries[s.id] for s, _, _ in part])
            words, _ = self._clip.text_features(self._texts(part))
            fit[here] = clip_t(self._clip.image_features(images), words)
        shape = (len(self.subjects), len(self._prompts), self._samples)
        per_prompt = fit.reshape(shape).mean(axis=2)
        classes = np.array([prompt.prompt_class for prompt in self._prompts])
        prompt = {str(name): per_prompt[:, classes == name].mean(axis=1) for name in np.unique(classes)}
        return RunMeasurements(identity.reshape(shape).mean(axis=(1, 2)), {**prompt, "all": per_prompt.mean(axis=1)})

    def _generate(self, module: PersonalisationModule, part: Sequence[Wanted]) -> NDArray[np.uint8]:
        names = [f"{s.id}.{p.id}.{i}" for s, p, i in part]
        batch = request_batch(
            request_ids=names,
            subjects=[s.id for s, _, _ in part],
            prompts=[p.text for _, p, _ in part],
            noise_keys=[("claims", name) for name in names],
            latent_shape=module.backbone.latent_shape,
            text_states=module.backbone.encode_text(self._texts(part)),
        )
        return module.generate(batch).numpy()

    def _texts(self, part: Sequence[Wanted]) -> list[str]:
        """The prompts as text encoders read them, with class nouns."""
        return [spoken(p.text, s.id, self._nouns) for s, p, _ in part]

"""Runs of SeFi-IDE that differ in one setting, and what their images show: identity, prompt fit, attention."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

import train
from contracts.batch import RequestBatch
from contracts.errors import LikenessError
from contracts.prompts import spoken
from contracts.protocol import Prompt
from datamodules.features.cache import content_key
from datamodules.subjects import SubjectPhotos, load_subjects
from leaderboard.plan.prompts import read_prompts
from lightning_modules.base import PersonalisationModule
from lightning_modules.run import load_run
from lightning_modules.sefi_ide import SefiIDE
from metrics.functional.clip_score import clip_similarity
from metrics.functional.identity import gallery_mean, gallery_similarity
from networks.backbone import backbone_fingerprint
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack
from networks.keyed_noise import keyed_normal
from pocket.models import paths

CONFIG = "configs/pocket/sefi_ide.yaml"
PROMPTS = "configs/prompts/pocket.yaml"
BATCH = 16
Values = NDArray[np.float64]


def enrolled(work: Path, name: str, subjects: Sequence[str], settings: Mapping[str, object]) -> SefiIDE:
    """The run ``name`` below ``work``: the pocket configuration with other ``settings`` (keys of the command line).

    It is trained if it is not there yet. Its folder is called after all that decides it, so that a run of an older
    configuration or base model is never taken for it.
    """
    changes = {**settings, "data.subjects": json.dumps(list(subjects)), "data.validation.prompts": "[]"}
    folder = work / f"{name}-{_deciding(changes)}"
    if not (folder / "adapter.safetensors").is_file():
        quiet = {"judges": "null", "trainer.enable_progress_bar": "false", "trainer.enable_model_summary": "false"}
        arguments = [f"--{key}={value}" for key, value in {**changes, **quiet}.items()]
        train.train([f"--config={CONFIG}", f"--output={folder}", *arguments])
    run = load_run(folder)
    if not isinstance(run, SefiIDE):
        raise LikenessError(f"{str(folder)!r} is no run of SeFi-IDE")
    return run


def _deciding(changes: Mapping[str, object]) -> str:
    """10 hex digits over the pocket configuration, what is changed in it, and the base model's weights."""
    config = yaml.safe_load(Path(CONFIG).read_text())
    told = {part: config[part] for part in ("seed_everything", "model", "data", "trainer")}
    about = [told, sorted((key, str(value)) for key, value in changes.items()), backbone_fingerprint(str(paths.BASE))]
    return content_key(json.dumps(about, sort_keys=True))[:10]


@dataclass(frozen=True)
class Shown:
    """What each subject's images of a run show on average, (S,) each. ``identity``: cosine to held-out photos, misses
    0. ``prompt``: CLIP-T by class of prompt, and over all of them under ``all``."""

    identity: Values
    prompt: dict[str, Values]


class Studio:
    """Draws every prompt of the pocket protocol for some subjects, and judges what it sees."""

    def __init__(self, subjects: Sequence[str], samples: int, resolution: int) -> None:
        self.subjects: list[SubjectPhotos] = load_subjects("pocket10k", list(subjects), resolution)
        self._prompts, self._samples = read_prompts(PROMPTS), samples
        self._faces, self._clip = FacePack(str(paths.FACES_B)), ClipJudge(str(paths.CLIP))
        self._nouns = {subject.id: subject.noun for subject in self.subjects}
        self._galleries = {}
        for subject in self.subjects:
            judged = self._faces.judge(subject.held_out)
            self._galleries[subject.id] = gallery_mean(torch.from_numpy(judged.embeddings[judged.found]))

    def show(self, module: PersonalisationModule) -> Shown:
        """Draw and judge; noise is keyed by subject, prompt and sample, so it is the same for every run."""
        wanted = [(s, p, i) for s in self.subjects for p in self._prompts for i in range(self._samples)]
        identity, fit = np.empty(len(wanted)), np.empty(len(wanted))
        for first in range(0, len(wanted), BATCH):
            here = slice(first, first + BATCH)
            part = wanted[here]
            images = self._draw(module, part)
            judged = self._faces.judge(images)
            galleries = torch.stack([self._galleries[s.id] for s, _, _ in part])
            identity[here] = gallery_similarity(torch.from_numpy(judged.embeddings), galleries)
            words, _ = self._clip.text_features([spoken(p.text, s.id, self._nouns) for s, p, _ in part])
            fit[here] = clip_similarity(self._clip.image_features(images), words)
        shape = (len(self.subjects), len(self._prompts), self._samples)
        per_prompt = fit.reshape(shape).mean(axis=2)
        classes = np.array([prompt.prompt_class for prompt in self._prompts])
        prompt = {str(name): per_prompt[:, classes == name].mean(axis=1) for name in np.unique(classes)}
        return Shown(identity.reshape(shape).mean(axis=(1, 2)), {**prompt, "all": per_prompt.mean(axis=1)})

    def _draw(self, module: PersonalisationModule, part: list[tuple[SubjectPhotos, Prompt, int]]) -> NDArray[np.uint8]:
        names = tuple(f"{s.id}.{p.id}.{i}" for s, p, i in part)
        batch = RequestBatch(
            request_ids=names,
            subjects=tuple(s.id for s, _, _ in part),
            prompts=tuple(p.text for _, p, _ in part),
            noise=torch.stack([keyed_normal(module.backbone.latent_shape, "claims", name) for name in names]),
            text_states=module.backbone.encode_text([spoken(p.text, s.id, self._nouns) for s, p, _ in part]),
            reference={},
        )
        return module.draw(batch).numpy()

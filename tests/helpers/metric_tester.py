"""One tester for every metric: each way of counting it must agree with the same rows averaged another way."""

import math
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
from numpy.typing import NDArray

from contracts.records import Request
from contracts.settings import JudgeSettings
from leaderboard.report.statistics import RecordTable
from leaderboard.score.scoring import make_records
from metrics.base import Metric
from metrics.gallery import SubjectPhotos
from metrics.judges import JudgedImages, Judges, make_galleries
from metrics.state import MetricState
from pocket.tiny.components import SIDE, random_lpips, tiny_clip, tiny_faces, tiny_vit
from tests.helpers.distributed import run_ranks

DARK = 5
"""The level of a grey image in which the tiny detector finds no face."""
NOUNS = {"ann": "person", "ben": "person", "hat": "hat"}
BESIDE = {"ann": "ben", "ben": "ann"}
"""Who is to be beside whom in the images of the first prompt."""
PROMPTS = {"beach": "a photo of a <subject>, on a beach", "sketch": "a pencil sketch of a <subject>"}
SAMPLES = 3
GROUPS_IN_A_BATCH = (1, 1, 2, 1, 1)


@dataclass(frozen=True)
class JudgedPlan:
    """A small plan whose images are judged by every kind of judge: people and an object, faces found and missed, and a
    last group that lacks a sample."""

    settings: JudgeSettings
    requests: Sequence[Request]
    batches: Sequence[JudgedImages]
    """Of whole groups, an odd number, of unequal sizes."""
    photos: NDArray[np.float32]
    """CLIP features (M, D) of the held-out photos of all subjects."""

    @classmethod
    def make(cls, root: Path) -> "JudgedPlan":
        """A plan with the smallest judges in ``root``."""
        settings = JudgeSettings(
            faces=str(tiny_faces(root / "faces", parts=True)),
            clip=str(tiny_clip(root / "clip")),
            second_faces=str(tiny_faces(root / "second")),
            image_backbone=str(tiny_vit(root / "vit")),
            lpips=str(random_lpips(root / "lpips.safetensors")),
        )
        judges = Judges(**vars(settings))
        rng = np.random.default_rng(0)
        subjects = [_photos(rng, name, noun) for name, noun in NOUNS.items()]
        galleries = make_galleries(subjects, {s.id: judges.observe_photos(s) for s in subjects})
        requests = [
            Request(subject, prompt, text, "scene", sample, BESIDE.get(subject) if prompt == "beach" else None)
            for subject in NOUNS
            for prompt, text in PROMPTS.items()
            for sample in range(SAMPLES)
        ][:-1]
        batches, first = [], 0
        for groups in GROUPS_IN_A_BATCH:
            some = requests[first : first + groups * SAMPLES]
            first += groups * SAMPLES
            images = np.stack([_image(rng, request) for request in some])
            mine = [galleries[request.subject] for request in some]
            beside = [galleries.get(request.beside or "") for request in some]
            batches.append(JudgedImages.judge(judges, images, some, mine, NOUNS, beside=beside))
        photos = np.concatenate([gallery.held_out["clip"] for gallery in galleries.values()])
        return cls(settings, requests, batches, photos)


def _photos(rng: np.random.Generator, name: str, noun: str) -> SubjectPhotos:
    levels = [DARK, DARK, 120, DARK] if noun == "hat" else rng.integers(60, 220, 4).tolist()  # 120 is a false face
    pixels = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in levels])
    brightest = 2 * DARK if noun == "hat" else 255
    pixels[:, : SIDE // 4, : SIDE // 4] = rng.integers(0, brightest, (4, SIDE // 4, SIDE // 4, 3))
    texts = ("on a beach", "in a forest", "in the snow", "in a forest")
    poses = rng.uniform(-20, 20, (4, 3)).astype(np.float32)
    ids = np.array([0, 1, 2, 1])
    return SubjectPhotos(name, noun, pixels[0], pixels[1:], poses, ids, texts, has_face=noun != "hat", clothes=ids)


def _image(rng: np.random.Generator, request: Request) -> NDArray[np.uint8]:
    """Grey with noise; one sample of each second prompt is too dark for a face."""
    if request.prompt_id == "sketch" and request.sample == 1:
        return np.full((SIDE, SIDE, 3), DARK, np.uint8)
    image = np.full((SIDE, SIDE, 3), int(rng.integers(60, 220)), np.uint8)
    image[SIDE // 2 :] = rng.integers(0, 255, (SIDE - SIDE // 2, SIDE, 3))
    return image


def check_metric(metric: Metric, plan: JudgedPlan, expected: float) -> None:
    """Check every way of counting ``metric`` over the images of ``plan`` against the value ``expected``."""
    assert math.isfinite(expected), "a plan on which the metric has no value checks nothing"

    def make() -> MetricState:
        return MetricState(metric, plan.requests, plan.photos)

    state = make()
    for batch in plan.batches:
        one = make()
        one.update(batch)
        same = float(one.compute())
        assert float(state(batch)) == same or math.isnan(same), "what forward gives is the value of the batch"
    value = float(state.compute())
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)

    halfway = make()
    for batch in plan.batches[:2]:
        halfway.update(batch)
    for copy in (pickle.loads(pickle.dumps(halfway)), halfway.clone()):
        for batch in plan.batches[2:]:
            copy.update(batch)
        assert float(copy.compute()) == value

    state.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns, rightly, that nothing was counted
        assert math.isnan(float(state.compute()))
    assert state.higher_is_better is metric.higher_is_better

    for world_size in (1, 2):
        alternating = [list(plan.batches[rank::world_size])[::-1] for rank in range(world_size)]
        all_on_one = [list(plan.batches), *[[] for _ in range(world_size - 1)]]
        for shares in (alternating, all_on_one):
            for got in run_ranks(_count_share, make, shares, ranks=world_size):
                assert got == value, "the same to the last bit for every number of processes"

    hashes = [""] * len(plan.requests)
    versions = {metric.name: ""}
    records = [record for batch in plan.batches for record in make_records(batch, hashes, versions)]
    table = RecordTable(records, tuple(NOUNS), SAMPLES)
    column = table.columns(versions).get(metric.name)
    printed = table.whole(metric.name, plan.photos).value if column is None else column.value
    assert printed == value, "records say what the state says"


def _count_share(make: type[MetricState], shares: list[list[JudgedImages]]) -> float:
    state = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in shares[torch.distributed.get_rank()]:
            state.update(batch)
        return float(state.compute())

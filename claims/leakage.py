"""How far the reference's background, pose and clothes show up in the images that a method generates from it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from claims.measurements import BATCH, Values, identities, subject_galleries
from contracts.errors import LikenessError
from contracts.files import cache_folder
from datamodules.image_io import read_square
from datamodules.index import Photo, load_photos, read_photos
from datamodules.requests import request_batch
from datamodules.sources import find_shards
from lightning_modules.spotdiff import SpotDiff
from networks.clip_image import load_clip_image
from networks.face_analysis import FacePack
from pocket.models import paths
from pocket.render.dataset import shot_of
from pocket.render.factors import BACKGROUNDS, CLOTH_COLOURS

PROMPT = "a photo of a person"
CLASSES = ("background", "clothes")
"""Factors that are one of several kinds."""


@dataclass(frozen=True)
class TestSet:
    """Photos of the test subjects: RGB (N, H, W, 3), their CLIP features (N, D), and the labels (N,) of four factors:
    pose, background, the colour of the clothes, and subject."""

    photos: list[Photo]
    images: NDArray[np.uint8]
    clip: torch.Tensor
    labels: dict[str, NDArray[np.int64]]


def load_test_set(resolution: int, split: str = "test") -> TestSet:
    """All photos of pocket10k's test subjects, or of those of another split, on which settings are chosen."""
    photos = [p for p in load_photos(find_shards("pocket10k"), cache_folder()) if p.split == split]
    pixels = {p.photo.id: read_square(p.image, p.photo.id, resolution) for p in read_photos(photos)}
    images = np.stack([pixels[p.id] for p in photos])
    encoder = load_clip_image(str(paths.CLIP))
    clip = torch.cat([encoder.encode(images[i : i + 100]) for i in range(0, len(images), 100)])
    subjects = sorted({p.subject_id for p in photos})
    labels = {
        "pose": np.array([p.pose_id for p in photos]),
        "background": np.array([p.background_id for p in photos]),
        "clothes": np.array([_clothes(p) for p in photos]),
        "subject": np.array([subjects.index(p.subject_id) for p in photos]),
    }
    return TestSet(photos, images, clip, labels)


def _clothes(photo: Photo) -> int:
    """Number of the colour of the clothes, as the renderer drew them."""
    if photo.pose_id is None or photo.background_id is None:
        raise LikenessError(f"{photo.called} has no place in the grid of pocket10k")
    shot = shot_of(photo.subject_id, photo.pose_id, BACKGROUNDS[photo.background_id], photo.split)
    return list(CLOTH_COLOURS).index(shot.cloth_colour)


@dataclass(frozen=True)
class LeakageMeasurements:
    """A run at one scale.

    Attributes:
        identities: Mean cosine of each of S subjects (S,) to its photos. An image without a face counts as 0.
        leakage: Values by factor for each of S subjects, (S,); their mean is that of all images. ``background`` is the
            share of images whose background is read as the reference's, ``clothes`` that of their colour. ``pose`` is
            the correlation of the yaw and pitch read from the images with the reference's; a subject's part is the
            mean product of its standard scores.
    """

    identities: Values
    leakage: dict[str, Values]
    chance: dict[str, float]
    """What the mean of each factor is where the images were generated from other references."""

    @property
    def identity(self) -> float:
        """The mean over the subjects."""
        return float(self.identities.mean())


class FactorReader:
    """Reads background, clothes and pose from images; trained on real photos, whose factors are known."""

    def __init__(self, data: TestSet) -> None:
        self._encoder = load_clip_image(str(paths.CLIP))
        features = self._features(data.images)
        self._classes = {
            factor: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1)).fit(
                features, data.labels[factor]
            )
            for factor in CLASSES
        }
        self._pose = make_pipeline(StandardScaler(), Ridge(10.0)).fit(
            features, np.array([p.pose for p in data.photos], float)[:, :2]
        )

    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([self._encoder.encode(images[i : i + 100]).numpy() for i in range(0, len(images), 100)])

    def read(self, images: NDArray[np.uint8]) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.float64]]:
        """Labels (N,) of background and clothes by factor, and yaw, pitch in degrees (N, 2)."""
        features = self._features(images)
        return {name: reader.predict(features) for name, reader in self._classes.items()}, self._pose.predict(features)


@contextmanager
def turned(run: SpotDiff, scale: float, keep: Mapping[str, float]) -> Iterator[None]:
    """``run`` at another scale, with so much of the reference's pose and background given back."""
    before = run.scale, dict(run.keep)
    run.scale = scale
    run.keep.update(keep)
    try:
        yield
    finally:
        run.scale, run.keep = before


def measure_leakage(
    run: SpotDiff,
    scale: float,
    data: TestSet,
    reader: FactorReader,
    faces: FacePack,
    samples: int,
    keep: Mapping[str, float] = MappingProxyType({}),
) -> LeakageMeasurements:
    """Generate every test subject ``samples`` times, from references of varied pose and background; read the images.

    ``keep`` is how much of the reference's pose and background is given back (see :class:`SpotDiff`).
    """
    subjects = sorted({p.subject_id for p in data.photos})
    rows = {name: [i for i, p in enumerate(data.photos) if p.subject_id == name] for name in subjects}
    picks = [
        (name, rows[name][(7 * s + 11 * k) % len(rows[name])], k)
        for s, name in enumerate(subjects)
        for k in range(samples)
    ]
    with turned(run, scale, keep):
        images = np.concatenate([_generate(run, data, picks[i : i + BATCH]) for i in range(0, len(picks), BATCH)])
    classes, pose = reader.read(images)
    chosen = [i for _, i, _ in picks]
    wanted = {factor: data.labels[factor][chosen] for factor in CLASSES}
    copied = {factor: found == wanted[factor] for factor, found in classes.items()}
    by_chance = {factor: float((found[:, None] == wanted[factor]).mean()) for factor, found in classes.items()}
    angles = np.array([data.photos[i].pose for i in chosen], float)[:, :2]
    products = (_standard(pose) * _standard(angles)).mean(axis=1)
    galleries = subject_galleries(faces, {name: data.images[rows[name]] for name in subjects})
    per_image = {
        "identity": identities(faces.judge(images), [galleries[name] for name, _, _ in picks]),
        "pose": products,
    }
    means = {name: v.reshape(len(subjects), samples).mean(axis=1) for name, v in (per_image | copied).items()}
    return LeakageMeasurements(means.pop("identity"), means, {"pose": 0.0, **by_chance})


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard scores of each column of (N, K)."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


def _generate(run: SpotDiff, data: TestSet, picks: list[tuple[str, int, int]]) -> NDArray[np.uint8]:
    """Images (B, H, W, 3) of ``picks``: subject, index of the reference, sample."""
    names = [f"{subject}/{k}" for subject, _, k in picks]
    batch = request_batch(
        request_ids=names,
        subjects=[subject for subject, _, _ in picks],
        prompts=[PROMPT] * len(picks),
        noise_keys=[("leakage", name) for name in names],
        latent_shape=run.backbone.latent_shape,
        text_states=run.backbone.encode_text([PROMPT]).expand(len(picks)),
        reference={"clip": data.clip[[i for _, i, _ in picks]]},
    )
    return run.generate(batch).numpy()

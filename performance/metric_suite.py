"""All scores of an image in one pass against a pass over the images for each metric: ours / reference.

Both sides read the same PNG files and end with the same numbers; a pass reads its files and runs its networks.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from leaderboard.results.image_files import read_image, write_image
from metrics.functional.clip_t import clip_t
from metrics.judges import Judges
from metrics.regions import background_only, person_only
from performance.timing import Result, Rounds, compare
from pocket.models.bank import render_bank
from pocket.models.paths import CLIP, DET_SIZE, FACES_A, FACES_B

IMAGES = 16
GOAL = 0.6
TEXT = "a photo of a person"


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per image."""
    judges = Judges(str(FACES_B), str(CLIP), str(FACES_A), det_size=DET_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder))
        rounds = compare(lambda: one_pass(judges, files), lambda: a_pass_per_metric(judges, files), rounds)
    ours = 1000 * rounds.ours / IMAGES
    reference = 1000 * rounds.reference / IMAGES
    return Result(
        "metric suite in one pass", ours, reference, ours / reference, GOAL, "lower", "ms/image", rounds.self_ratio
    )


def write_images(folder: Path, count: int = IMAGES) -> list[Path]:
    """Renders as PNG files."""
    files = []
    for i, row in enumerate(render_bank("suite", count, 1)):
        files.append(folder / f"{i:04d}.png")
        write_image(files[-1], row["image"], {})
    return files


def one_pass(judges: Judges, files: list[Path]) -> dict[str, NDArray]:
    """Everything from one decoding, each network run once."""
    seen = judges.observe(_decode(files))
    words, _ = judges.clip.text_features([TEXT] * len(files))
    fit = clip_t(torch.from_numpy(seen.features["clip"]), words)
    return {**seen.features, "clip_t": fit.numpy(), "detection_rate": seen.judged.found}


def a_pass_per_metric(judges: Judges, files: list[Path]) -> dict[str, NDArray]:
    """The same, where every metric decodes the images and runs its networks for itself."""

    def clip_view(view: Callable) -> NDArray:
        images = _decode(files)
        judged = judges.faces.judge(images)
        rows = np.flatnonzero(judged.found)
        found = np.zeros((len(files), judges.clip.width), np.float32)
        found[rows] = judges.clip.image_features(np.stack([view(images[i], judged.boxes[i]) for i in rows])).numpy()
        return found

    def second() -> NDArray:
        assert judges.second is not None
        images = _decode(files)
        return judges.second.embed(images, judges.faces.judge(images))

    words, _ = judges.clip.text_features([TEXT] * len(files))
    return {
        "detection_rate": judges.faces.judge(_decode(files)).found,
        "faces": judges.faces.judge(_decode(files)).embeddings,
        "second": second(),
        "clip_t": clip_t(judges.clip.image_features(_decode(files)), words).numpy(),
        "clip": judges.clip.image_features(_decode(files)).numpy(),
        "clip_foreground": clip_view(person_only),
        "clip_background": clip_view(background_only),
    }


def _decode(files: list[Path]) -> NDArray[np.uint8]:
    return np.stack([read_image(file.read_bytes(), file.name, 64) for file in files])

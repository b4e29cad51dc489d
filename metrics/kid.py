"""KID: the distance of an entry's images to the held-out photos, as distributions of CLIP features."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.base import Metric, Rows
from metrics.card import JudgeNetwork, MetricCard, PlanSize
from metrics.functional.kid import kernel_distance
from metrics.judges import JudgedImages

IMAGES = 1_000
"""KID takes so many images at most, spread evenly over the plan: its cost grows with their square."""


class KernelDistance(Metric):
    """One number for a whole entry: it has no value by subject and no interval, as a resample repeats images."""

    name = "kid"
    title = "KID"
    group = "distribution"
    judge = "clip"
    rule = "poly3|unbiased"
    about = "kernel distance of the images to the held-out photos"
    needs = frozenset({"image", "photos"})
    higher_is_better = False
    low = None
    high = None
    source = "KID, arXiv 1801.01401, on CLIP features"
    feature = "clip"

    def card(self, networks: Mapping[str, JudgeNetwork], size: PlanSize) -> MetricCard:
        n = min(size.images, IMAGES)
        card = super().card(networks, size)
        about = f"kernel distance of {n} images to the held-out photos; no interval, as a resample repeats images"
        version = f"{card.version}|n{n}|held-out-photos"
        return replace(card, title=f"{self.title}, n = {n}", version=version, about=about)

    def score(self, judged: JudgedImages) -> Tensor:
        return judged.features(self.feature)

    def by_subject(self, rows: Rows) -> None:
        """It has none."""

    def value(self, rows: Rows, photos: NDArray[np.float32] | None = None) -> float:
        """NaN without photos (the ceiling's images are such photos) and with fewer than two images or photos."""
        count = len(rows.values)
        if photos is None or count < 2:
            return float("nan")
        spread = np.unique(np.linspace(0, count - 1, min(count, IMAGES)).round().astype(int))
        images = torch.from_numpy(np.ascontiguousarray(rows.values[spread]))
        return float(kernel_distance(images, torch.from_numpy(photos)))


METRICS: tuple[Metric, ...] = (KernelDistance(),)

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from metrics.functional.kid import kernel_distance
from metrics.functional.vendi import vendi_score
from metrics.samples import KernelDistance, VendiScore
from tests.helpers.metric_tester import Values, check_metric

GROUPS, SAMPLES, WIDTH, IMAGES = 3, 4, 6, 20
REAL = F.normalize(torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1)


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def vendi_reference(features: Tensor, slot: Tensor) -> Values:
    """The eigenvalues of the other Gram matrix (D x D), whose non-zero ones are the same; complete groups only."""
    scores = []
    for group in range(GROUPS):
        rows = features[slot // SAMPLES == group].numpy()
        if len(rows) == SAMPLES:
            values = np.linalg.eigvals(rows.T @ rows / SAMPLES).real
            scores.append(math.exp(-sum(v * math.log(v) for v in values if v > 1e-12)))
    return {"": float(np.mean(scores)) if scores else math.nan}


def kid_reference(features: Tensor, slot: Tensor) -> Values:
    """The definition of the unbiased estimate, pair by pair."""
    x, y = features.tolist(), REAL.tolist()

    def kernel(a: list[float], b: list[float]) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / WIDTH + 1) ** 3

    if len(x) < 2:
        return {"": math.nan}
    within_x = np.mean([kernel(a, b) for a, b in itertools.permutations(x, 2)])
    within_y = np.mean([kernel(a, b) for a, b in itertools.permutations(y, 2)])
    return {"": float(within_x + within_y - 2 * np.mean([kernel(a, b) for a in x for b in y]))}


def batches(*shares: list[int]) -> list[tuple[Tensor, Tensor]]:
    features = unit(IMAGES, WIDTH, seed=1)
    return [(features[share], torch.tensor(share)) for share in shares]


def test_every_way_of_counting_vendi_agrees() -> None:
    shares = batches([0, 1, 2, 3, 9], [8], [4, 5, 10, 6, 7])  # group 2 lacks a sample
    check_metric(lambda: VendiScore(GROUPS, SAMPLES, WIDTH), shares, vendi_reference)


def test_every_way_of_counting_kid_agrees() -> None:
    check_metric(lambda: KernelDistance(IMAGES, REAL), batches([0, 1, 2], [19], [7, 8, 9, 10, 11]), kid_reference)


def test_vendi_of_copies_is_1_and_of_orthogonal_samples_n() -> None:
    assert float(vendi_score(torch.ones(5, 4) / 2)) == pytest.approx(1.0)
    assert float(vendi_score(torch.eye(5))) == pytest.approx(5.0)


def test_vendi_grows_with_n_so_n_is_fixed() -> None:
    features = unit(8, 64, seed=2)
    assert float(vendi_score(features)) > float(vendi_score(features[:4])) + 1


def test_kid_is_that_of_torchmetrics() -> None:
    x, y = unit(40, 16, seed=3), unit(40, 16, seed=4)
    assert float(kernel_distance(x, y)) == pytest.approx(float(poly_mmd(x, y, 3, None, 1.0)), abs=1e-9)


def test_kid_is_unbiased_at_few_images() -> None:
    """Of equal distributions the estimates scatter about 0."""
    values = [float(kernel_distance(unit(20, 8, seed=s), unit(20, 8, seed=1000 + s))) for s in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))

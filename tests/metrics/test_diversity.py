import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import pdist
from torch import Tensor

from metrics.diversity import LpipsDiversity, SampleDiversity
from metrics.functional.diversity import sample_diversity
from metrics.functional.lpips import mean_distance_to_others
from tests.helpers.metric_tester import Values, check_metric

GROUPS, WIDTH = 5, 8


def reference(features: Tensor, group: Tensor) -> Values:
    """SciPy's cosine distance of every pair, group by group."""
    means = []
    for g in range(GROUPS):
        members = features[group == g].double().numpy()
        if len(members) > 1:
            means.append(np.mean(pdist(members, "cosine")))
    return {"": float(np.mean(means)) if means else math.nan}


def batch(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(size, WIDTH, generator=generator, dtype=torch.float64), dim=-1)
    return features, torch.randint(GROUPS, (size,), generator=generator)


def test_every_way_of_counting_agrees() -> None:
    check_metric(lambda: SampleDiversity(GROUPS, WIDTH), [batch(7, 1), batch(1, 2), batch(6, 3)], reference)


def test_copies_have_no_diversity() -> None:
    same = F.normalize(torch.ones(4, WIDTH), dim=-1)
    assert abs(float(sample_diversity(same, torch.zeros(4, dtype=torch.int64)))) < 1e-7


def test_unnormalised_features_give_half_the_squared_distance() -> None:
    features = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pairs = [float((a - b).square().sum()) / 2 for a, b in itertools.combinations(features, 2)]
    got = float(sample_diversity(features, torch.zeros(6, dtype=torch.int64)))
    assert math.isclose(got, float(np.mean(pairs)), rel_tol=1e-9)


def lpips_reference(features: Tensor, group: Tensor) -> Values:
    """SciPy's squared Euclidean distance of every pair, group by group."""
    means = []
    for g in range(GROUPS):
        members = features[group == g].numpy()
        if len(members) > 1:
            means.append(np.mean(pdist(members, "sqeuclidean")))
    return {"": float(np.mean(means)) if means else math.nan}


def test_every_way_of_counting_lpips_agrees() -> None:
    check_metric(lambda: LpipsDiversity(GROUPS, WIDTH), [batch(7, 1), batch(1, 2), batch(6, 3)], lpips_reference)


def test_distances_to_the_others_average_to_the_pairwise_one() -> None:
    features = 100 + torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    got = mean_distance_to_others(features)
    np.testing.assert_allclose(got.numpy()[0], np.mean([float((features[0] - b).square().sum()) for b in features[1:]]))
    assert float(got.mean()) == pytest.approx(float(np.mean(pdist(features.numpy(), "sqeuclidean"))))
    assert mean_distance_to_others(features[:1]).isnan().all()

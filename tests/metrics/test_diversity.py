import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import pdist

from metrics.functional.diversity import sample_diversity
from metrics.functional.lpips import mean_distance_to_others

GROUPS, WIDTH = 5, 8


def test_diversity_is_the_mean_over_groups_of_the_mean_over_pairs() -> None:
    """SciPy's cosine distance of every pair, group by group."""
    generator = torch.Generator().manual_seed(1)
    features = F.normalize(torch.randn(17, WIDTH, generator=generator, dtype=torch.float64), dim=-1)
    group = torch.randint(GROUPS, (17,), generator=generator)
    members = [features[group == g].numpy() for g in range(GROUPS)]
    expected = np.mean([np.mean(pdist(some, "cosine")) for some in members if len(some) > 1])
    assert float(sample_diversity(features, group)) == pytest.approx(expected)


def test_copies_have_no_diversity() -> None:
    same = F.normalize(torch.ones(4, WIDTH), dim=-1)
    assert abs(float(sample_diversity(same, torch.zeros(4, dtype=torch.int64)))) < 1e-7


def test_unnormalised_features_give_half_the_squared_distance() -> None:
    features = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pairs = [float((a - b).square().sum()) / 2 for a, b in itertools.combinations(features, 2)]
    got = float(sample_diversity(features, torch.zeros(6, dtype=torch.int64)))
    assert math.isclose(got, float(np.mean(pairs)), rel_tol=1e-9)


def test_distances_to_the_others_average_to_the_pairwise_one() -> None:
    features = 100 + torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    got = mean_distance_to_others(features)
    np.testing.assert_allclose(got.numpy()[0], np.mean([float((features[0] - b).square().sum()) for b in features[1:]]))
    assert float(got.mean()) == pytest.approx(float(np.mean(pdist(features.numpy(), "sqeuclidean"))))
    assert mean_distance_to_others(features[:1]).isnan().all()

"""Diversity: mean pairwise distance of the samples of one subject and prompt, in O(n).

The distance is half the squared Euclidean one, which for unit features is the cosine distance. Summed over the
n (n - 1) / 2 pairs it is (n sum |v|^2 - |sum v|^2) / 2, so three sums per group are all that is kept.
"""

import torch
from torch import Tensor


def diversity_update(features: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count (G,), sum of squared norms (G,) and sum of vectors (G, D) of each group, in float64.

    ``features`` is (B, D), ``group`` (B,) int64 in 0..G-1.
    """
    features = features.double()
    count = torch.bincount(group, minlength=groups).double()
    squares = torch.bincount(group, torch.linalg.vecdot(features, features), minlength=groups)
    vectors = features.new_zeros(groups, features.shape[1]).index_add_(0, group, features)
    return count, squares, vectors


def diversity_compute(count: Tensor, squares: Tensor, vectors: Tensor) -> Tensor:
    """Mean pairwise distance of each group (G,), at least 0; NaN for a group of fewer than two samples."""
    total = (count * squares - torch.linalg.vecdot(vectors, vectors)).clamp_(min=0)
    return torch.where(count > 1, total / (count * (count - 1)), torch.nan)


def sample_diversity(features: Tensor, group: Tensor) -> Tensor:
    """Mean over groups of the mean pairwise distance; groups of fewer than two samples do not count."""
    groups = int(group.max()) + 1 if len(group) else 0
    return diversity_compute(*diversity_update(features, group, groups)).nanmean()

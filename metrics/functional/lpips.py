"""Mean pairwise LPIPS of samples (arXiv 1801.03924, equation 1), in O(n).

LPIPS is a squared Euclidean distance between features that are scaled by the square roots of its channel weights and of
1 / (H W), so the sum over pairs needs sums over samples only, as in :mod:`metrics.functional.diversity`.
"""

import torch
from torch import Tensor


def mean_distance_to_others(features: Tensor) -> Tensor:
    """Mean squared distance (n,) of each row of scaled features (n, D) to the other rows, in float64; NaN at n = 1.

    The mean of these over a group is its mean pairwise distance.
    """
    n = len(features)
    if n < 2:
        return torch.full((n,), torch.nan, dtype=torch.float64)
    features = features.double() - features.double().mean(dim=0)  # centred: no difference of large numbers
    squares = features.square().sum(dim=1)
    return ((n * squares + squares.sum()) / (n - 1)).clamp(min=0)

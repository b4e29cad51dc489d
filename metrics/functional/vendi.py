"""The Vendi score (arXiv 2210.02410, Definition 3.1): the effective number of distinct samples.

exp of the entropy of the eigenvalues of K / n, with the cosine kernel K of unit features. It grows with n, so only
scores of the same n compare.
"""

import torch
from torch import Tensor


def vendi_score(features: Tensor) -> Tensor:
    """Vendi scores in 1..n (...,) of groups of unit features (..., n, D), in float64."""
    features = features.double()
    kernel = features @ features.transpose(-1, -2) / features.shape[-2]
    values = torch.linalg.eigvalsh(kernel).clamp(min=0)
    return torch.exp(-torch.special.xlogy(values, values).sum(dim=-1))

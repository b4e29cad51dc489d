"""The mean of scores that may be undefined: the one accumulation behind every metric of single images."""

import torch
from torch import Tensor


def mean_update(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and count, in float64, of the scores (B,) that are defined; NaN marks one that is not."""
    known = scores.isfinite()
    return torch.where(known, scores, 0.0).double().sum(), known.double().sum()


def mean_compute(total: Tensor, count: Tensor) -> Tensor:
    """The mean; NaN if nothing was counted."""
    return total / count

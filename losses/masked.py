"""A mean over a part of the image."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean per sample, (B,), of ``values`` (B, C, h, w) with ``mask`` (B, 1, h, w), 0 or more.

    A sample whose mask is empty counts as 0. The mean is taken per sample, so it does not depend on the batch.
    """
    weight = mask.float().expand_as(values).flatten(1)
    return (values * mask).float().flatten(1).sum(1) / weight.sum(1).clamp(min=1.0)

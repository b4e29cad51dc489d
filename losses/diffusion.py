"""The denoising loss, on the whole image or with weights by cell."""

import torch.nn.functional as F
from torch import Tensor


def diffusion_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error per sample, (B,), between the UNet's prediction and its target, both (B, C, h, w).

    The target is the noise or the velocity, as the base model was trained (Ho et al. 2020, equation 14).
    """
    return F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)


def subject_weighted_loss(prediction: Tensor, target: Tensor, mask: Tensor, weight: float) -> Tensor:
    """Squared error per sample, (B,), in which the subject's cells count 1 + ``weight`` times, the others once.

    ``mask`` (B, 1, h, w) in 0..1 is the subject. A subject covers few cells, so it hardly counts in a plain mean. With
    ``weight`` 0 it is :func:`diffusion_loss`.
    """
    return masked_mean((prediction.float() - target.float()) ** 2, 1 + weight * mask.float())


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean per sample, (B,), of ``values`` (B, C, h, w) with ``mask`` (B, 1, h, w), 0 or more.

    A sample whose mask is empty counts as 0. The mean is taken per sample, so it does not depend on the batch.
    """
    weight = mask.float().expand_as(values).flatten(1)
    return (values * mask).float().flatten(1).sum(1) / weight.sum(1).clamp(min=1.0)

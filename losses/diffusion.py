"""The denoising loss."""

import torch.nn.functional as F
from torch import Tensor


def diffusion_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error per sample, (B,), between the UNet's prediction and its target, both (B, C, h, w).

    The target is the noise or the velocity, as the base model was trained (Ho et al. 2020, equation 14).
    """
    return F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)

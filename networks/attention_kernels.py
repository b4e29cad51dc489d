"""Which attention kernel to train with."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def training_attention(device: torch.device) -> AbstractContextManager:
    """The kernel choice for forward and backward on ``device``, as a context.

    On a CPU in bfloat16 the fused kernel takes longer than the whole rest of a training step; plain matrix products
    do not. Everywhere else PyTorch chooses.
    """
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()

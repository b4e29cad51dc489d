"""Which attention kernel to train with."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

_ANY = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH]


def training_attention(device: torch.device) -> AbstractContextManager:
    """The kernel choice for forward and backward on ``device``, as a context.

    On a CPU in bfloat16 the fused kernel takes longer than the whole rest of a training step; plain matrix products
    do not. Everywhere else PyTorch chooses.
    """
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


@contextmanager
def without_graph() -> Iterator[None]:
    """For targets: no gradient, and any kernel again. Forward alone the fused one is the fastest on a CPU too."""
    with torch.no_grad(), sdpa_kernel(_ANY):
        yield

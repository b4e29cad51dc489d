"""Full float32 for the networks that judge."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 or bfloat16 inside of float32 convolutions and matrix products; afterwards all is as it was.

    Rounding there would move cosines in the third decimal, more than many claimed gains.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        # What is not named here is switched off, cuDNN itself too.
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)

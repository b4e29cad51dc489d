"""Random numbers keyed by what they are for, never by the process that samples them."""

import hashlib

import torch
from torch import Tensor


def key_seed(*parts: object) -> int:
    """A seed in 0..2^63-1 from the parts' text, the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def keyed_generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by the parts."""
    return torch.Generator().manual_seed(key_seed(*parts))


def keyed_normal(shape: tuple[int, ...], *parts: object) -> Tensor:
    """Standard normal noise of ``shape``, sampled on the CPU in float32."""
    return torch.randn(shape, generator=keyed_generator(*parts))

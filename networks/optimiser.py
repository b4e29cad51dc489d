"""AdamW whose moments are kept in 8 bits: a quarter of their memory (Dettmers et al., arXiv 2110.02861)."""

from importlib.util import find_spec

import torch

from contracts.errors import LikenessError


def check_8_bits(device: torch.device) -> None:
    """Raise :class:`LikenessError` where there is no AdamW in 8 bits, saying what it needs."""
    if find_spec("bitsandbytes") is None:
        raise LikenessError("--adamw_8bit needs the package bitsandbytes: pip install bitsandbytes, or leave it out")
    if device.type != "cuda":
        raise LikenessError(f"--adamw_8bit is for NVIDIA GPUs, this run is on {device.type}: leave it out")


def adamw_in_8_bits(groups: list[dict], device: torch.device, **settings: float) -> torch.optim.Optimizer:
    """AdamW of the package bitsandbytes, ``settings`` as torch's has them.

    Raises:
        LikenessError: the package, or a GPU, is missing.
    """
    check_8_bits(device)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, **settings)

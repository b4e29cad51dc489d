"""Where and in what numbers the pocket models are trained."""

import os

import torch
from torch import Tensor

from networks.precision import bfloat16_units


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 where the processor has units for it, else float32, which is many times faster there."""
    here = device()
    return torch.autocast(here.type, torch.bfloat16, enabled=bfloat16_units(here))


def send(tensor: Tensor) -> Tensor:
    """``tensor`` on :func:`device`. Everything random is drawn on the CPU first, so that it is the same everywhere."""
    return tensor.to(device(), non_blocking=True)


def drawing_processes() -> int:
    """How many processes draw views while a GPU trains; on a CPU the training itself draws them."""
    return 0 if device().type == "cpu" else max(1, min(8, (os.cpu_count() or 2) // 4))

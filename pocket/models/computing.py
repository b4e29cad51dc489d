"""In what numbers the pocket models are trained."""

import torch

from networks.precision import bfloat16_units


def autocast() -> torch.autocast:
    """bfloat16 where the processor has units for it, else float32, which is many times faster there."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_units(torch.device("cpu")))

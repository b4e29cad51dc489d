"""Gradient descent on a loss, which every loss must survive."""

from collections.abc import Callable

import torch
from torch import Tensor


def descend(
    loss: Callable[[Tensor], Tensor], start: Tensor, steps: int = 20, rate: float = 0.05
) -> tuple[float, float]:
    """The loss before and after ``steps`` of Adam on a copy of ``start``."""
    x = start.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=rate)
    first = loss(x).item()
    for _ in range(steps):
        optimiser.zero_grad()
        loss(x).backward()
        optimiser.step()
    return first, loss(x).item()

"""Metrics of whole sets: samples are kept in numbered slots, so that any process may fill any of them."""

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.kid import kernel_distance
from metrics.functional.vendi import vendi_score


class _Slots(Metric):
    """Keeps features (slots, width) in float64; slots that no process filled stay 0, so states reduce by sum."""

    is_differentiable = False
    full_state_update = False
    features: Tensor
    filled: Tensor

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        for name, shape in (("features", (slots, width)), ("filled", (slots,))):
            self.add_state(name, default=torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features: Tensor, slot: Tensor) -> None:
        """Take in features (B, D) at the slots (B,) int64; each slot is filled once, in one process."""
        self.features[slot] += features.double()
        self.filled[slot] += 1


class VendiScore(_Slots):
    """Vendi score at a fixed number of samples, averaged over groups that are complete.

    The slot of sample s of group g is ``g * samples + s``.
    """

    higher_is_better = True
    plot_lower_bound = 1.0

    def __init__(self, groups: int, samples: int, width: int) -> None:
        """``groups`` (subject, prompt) pairs of ``samples`` each, with features of ``width``."""
        super().__init__(groups * samples, width)
        self.shape = (groups, samples, width)

    def compute(self) -> Tensor:
        """Mean over complete groups, in 1..samples; NaN if there is none."""
        complete = (self.filled.view(self.shape[:2]) == 1).all(dim=1)
        return vendi_score(self.features.view(self.shape)[complete]).mean()


class KernelDistance(_Slots):
    """KID of images against a fixed set of real photos."""

    higher_is_better = False
    real: Tensor

    def __init__(self, images: int, real: Tensor) -> None:
        """At most ``images`` images, against the features (M, D) of real photos."""
        super().__init__(images, real.shape[1])
        self.register_buffer("real", real.double())

    def compute(self) -> Tensor:
        """KID over the slots that were filled; NaN with fewer than two."""
        return kernel_distance(self.features[self.filled > 0], self.real)

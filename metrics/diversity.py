"""Sample diversity as a torchmetrics class."""

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.diversity import diversity_compute, diversity_update


class SampleDiversity(Metric):
    """Mean pairwise feature distance of the samples of one subject and prompt, averaged over such groups.

    Memory is O(groups x width) whatever the number of samples; states are float64 sums, so samples of one
    group may be spread over processes.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound: float | None = 2.0
    count: Tensor
    squares: Tensor
    vectors: Tensor

    def __init__(self, groups: int, width: int) -> None:
        """``groups`` is the number of (subject, prompt) pairs, ``width`` the feature width."""
        super().__init__()
        self.groups = groups
        for name, shape in (("count", (groups,)), ("squares", (groups,)), ("vectors", (groups, width))):
            self.add_state(name, default=torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features: Tensor, group: Tensor) -> None:
        """Count samples: unit features (B, D) and the index of their group (B,) int64."""
        count, squares, vectors = diversity_update(features, group, self.groups)
        self.count += count
        self.squares += squares
        self.vectors += vectors

    def compute(self) -> Tensor:
        """Mean over groups of two samples or more; NaN if there is none."""
        return diversity_compute(self.count, self.squares, self.vectors).nanmean()


class LpipsDiversity(SampleDiversity):
    """Mean pairwise LPIPS of the samples of one subject and prompt, averaged over such groups.

    Takes the scaled features of ``networks.lpips``, whose squared Euclidean distance is LPIPS.
    """

    plot_upper_bound = None

    def compute(self) -> Tensor:
        """Mean over groups of two samples or more; NaN if there is none."""
        return 2 * super().compute()  # the base class takes half of the squared distance

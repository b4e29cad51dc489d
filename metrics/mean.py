"""The torchmetrics class behind every metric that is a mean over single images."""

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.mean import mean_compute, mean_update


class MeanScore(Metric):
    """Mean of a score over the images for which it is defined; states are float64 sums.

    Subclasses say what the score of an image is. NaN marks an image that has none, such as one without a face.
    """

    higher_is_better: bool = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_sum: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("score_sum", "total"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def scores(self, *inputs: Tensor) -> Tensor:
        """The score of each image (B,), NaN where it has none."""

    def update(self, *inputs: Tensor) -> None:
        """Count images; takes what :meth:`scores` takes."""
        score_sum, total = mean_update(self.scores(*inputs))
        self.score_sum += score_sum
        self.total += total

    def compute(self) -> Tensor:
        """The mean; NaN without images."""
        return mean_compute(self.score_sum, self.total)

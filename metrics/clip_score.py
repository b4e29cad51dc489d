"""CLIP-T as a torchmetrics class."""

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.clip_score import clip_similarity


class ClipScore(Metric):
    """Mean raw cosine of image and prompt, from features; states are float64 sums."""

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    similarity_sum: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("similarity_sum", "total"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, image_features: Tensor, text_features: Tensor) -> None:
        """Count images: unit image features (B, D) and the unit features (B, D) of their prompts."""
        self.similarity_sum += clip_similarity(image_features, text_features).sum()
        self.total += len(image_features)

    def compute(self) -> Tensor:
        """The mean in -1..1; NaN without images."""
        return self.similarity_sum / self.total

"""Identity preservation as a torchmetrics class."""

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.identity import gallery_similarity, identity_compute, identity_update


class IdentityPreservation(Metric):
    """Detection rate, similarity given detection, and similarity with misses counted as 0.

    States are float64 sums, so every process count gives the same values.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    similarity_sum: Tensor
    found: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("similarity_sum", "found", "total"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, embeddings: Tensor, found: Tensor, galleries: Tensor) -> None:
        """Count images: unit embeddings (B, D), ``found`` (B,) bool, gallery means (B, D) of their subjects."""
        similarity, found_count, total = identity_update(gallery_similarity(embeddings, galleries), found)
        self.similarity_sum += similarity
        self.found += found_count
        self.total += total

    def compute(self) -> dict[str, Tensor]:
        """The three columns by name; NaN where nothing was counted."""
        return identity_compute(self.similarity_sum, self.found, self.total)

"""Leakage of background and head pose from the reference as torchmetrics classes."""

import torch
from torch import Tensor

from metrics.functional.leakage import background_copied, background_leakage, pose_leakage
from metrics.mean import MeanScore


class BackgroundLeakage(MeanScore):
    """How much nearer backgrounds are to the own reference's than to those of other subjects; 0 is no leakage."""

    higher_is_better = False

    def scores(self, features: Tensor, own: Tensor, others: Tensor) -> Tensor:  # type: ignore[override]
        """Unit features (B, D) of backgrounds, all 0 for none, of the references, and means (B, D) of the others'."""
        known = features.any(dim=-1) & others.any(dim=-1)
        return torch.where(known, background_leakage(features, own, others), torch.nan)


class BackgroundCopied(MeanScore):
    """Share of images whose background is read as the reference's, of those that were not asked for it."""

    higher_is_better = False
    plot_lower_bound = 0.0
    means: Tensor

    def __init__(self, means: Tensor) -> None:
        """``means`` (C, D): the mean feature of each class of backgrounds, two at least to tell any apart."""
        super().__init__()
        self.register_buffer("means", means.double())

    def scores(self, features: Tensor, own: Tensor, asked: Tensor) -> Tensor:  # type: ignore[override]
        """Unit features (B, D) of backgrounds, all 0 for none; ``own`` (B,) the classes of the references'; ``asked``
        (B,) bool, where the prompt names the reference's own."""
        known = features.any(dim=-1) & ~asked
        return torch.where(known, background_copied(features, own, self.means), torch.nan)


class PoseLeakage(MeanScore):
    """How near head poses are to the reference's: 1 is the same pose, 0 is 45 degrees or more away."""

    higher_is_better = False
    plot_lower_bound = 0.0

    def scores(self, poses: Tensor, references: Tensor) -> Tensor:  # type: ignore[override]
        """Yaw, pitch, roll (B, 3) in degrees of images and of references; NaN for an image without a face."""
        known = poses.isfinite().all(dim=-1)
        values = pose_leakage(poses[known].cpu().numpy(), references[known].cpu().numpy())
        return torch.full_like(poses[:, 0], torch.nan, dtype=torch.float64).masked_scatter(
            known, values.to(poses.device)
        )

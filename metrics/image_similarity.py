"""CLIP-I, DINO and their kind as a torchmetrics class."""

import torch
from torch import Tensor

from metrics.functional.identity import gallery_similarity
from metrics.mean import MeanScore


class ImageSimilarity(MeanScore):
    """Mean raw cosine of images to photos of their subject, by the features of any frozen image network."""

    def scores(self, features: Tensor, galleries: Tensor) -> Tensor:  # type: ignore[override]
        """Unit features (B, D), all 0 for an image without a foreground, and means (B, D) of the photos' features."""
        return torch.where(features.any(dim=-1), gallery_similarity(features, galleries), torch.nan)

"""Identity as three numbers: how often a face is found, how alike it is, and both in one.

A raw cosine is never clamped: unrelated faces average to about 0 only if the negative ones count too.
"""

import torch
from torch import Tensor


def gallery_mean(gallery: Tensor) -> Tensor:
    """The mean of unit embeddings (K, D), not normalised again, as float64 (D,).

    The mean cosine of a face to K photos is its product with this mean, so K photos cost as much as one.
    """
    return gallery.double().mean(dim=0)


def gallery_similarity(embeddings: Tensor, galleries: Tensor) -> Tensor:
    """Mean cosine in -1..1 (B,) of unit embeddings (B, D) to the photos behind gallery means (B, D), in float64."""
    return (embeddings.double() * galleries.double()).sum(dim=-1)


def identity_update(similarity: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over a batch: similarity of found faces, found faces, images.

    ``similarity`` is (B,), of any value where ``found`` (B,) bool is false.
    """
    kept = torch.where(found, similarity.double(), 0.0)
    total = torch.tensor(float(found.numel()), dtype=torch.float64, device=found.device)
    return kept.sum(), found.double().sum(), total


def identity_compute(similarity_sum: Tensor, found: Tensor, total: Tensor) -> dict[str, Tensor]:
    """``detection_rate``, ``identity_given_detection``, ``identity_misses_zero``; NaN where nothing was counted."""
    return {
        "detection_rate": found / total,
        "identity_given_detection": similarity_sum / found,
        "identity_misses_zero": similarity_sum / total,
    }


def identity_preservation(embeddings: Tensor, found: Tensor, galleries: Tensor) -> dict[str, Tensor]:
    """The three columns for unit face embeddings (B, D), ``found`` (B,) bool and gallery means (B, D)."""
    return identity_compute(*identity_update(gallery_similarity(embeddings, galleries), found))

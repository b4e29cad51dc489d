"""Likeness of faces to photos. A raw cosine is never clamped: unrelated faces average to about 0 only if the negative
ones count too."""

from torch import Tensor


def gallery_mean(gallery: Tensor) -> Tensor:
    """The mean of unit embeddings (K, D), not normalised again, as float64 (D,).

    The mean cosine of a face to K photos is its product with this mean, so K photos cost as much as one.
    """
    return gallery.double().mean(dim=0)


def gallery_similarity(embeddings: Tensor, galleries: Tensor) -> Tensor:
    """Mean cosine in -1..1 (B,) of unit embeddings (B, D) to the photos behind gallery means (B, D), in float64."""
    return (embeddings.double() * galleries.double()).sum(dim=-1)

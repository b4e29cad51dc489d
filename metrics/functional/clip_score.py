"""CLIP-T: how well an image fits its prompt. Raw cosine: neither times 100 nor 2.5, and no clamping."""

from torch import Tensor


def clip_similarity(image_features: Tensor, text_features: Tensor) -> Tensor:
    """Cosine in -1..1 (B,) of unit image features (B, D) and unit text features (B, D), in float64."""
    return (image_features.double() * text_features.double()).sum(dim=-1)


def edit_margin(image_features: Tensor, text_features: Tensor, neutral_features: Tensor) -> Tensor:
    """How much better an image fits its prompt than a neutral one: the difference of two cosines (B,), in float64.

    An image that ignores the edit is near 0, whatever its subject is worth to CLIP. Unit features (B, D) each.
    """
    return clip_similarity(image_features, text_features) - clip_similarity(image_features, neutral_features)

"""CLIP-T and the margin of an edit as torchmetrics classes."""

from torch import Tensor

from metrics.functional.clip_score import clip_similarity, edit_margin
from metrics.mean import MeanScore


class ClipScore(MeanScore):
    """Mean raw cosine of image and prompt, from features."""

    def scores(self, image_features: Tensor, text_features: Tensor) -> Tensor:  # type: ignore[override]
        """Unit image features (B, D) and the unit features (B, D) of their prompts."""
        return clip_similarity(image_features, text_features)


class EditMargin(MeanScore):
    """Mean gain in cosine of a prompt over a neutral one; one metric for each prompt class tells edits apart."""

    plot_lower_bound = -2.0
    plot_upper_bound = 2.0

    def scores(self, image_features: Tensor, text_features: Tensor, neutral_features: Tensor) -> Tensor:  # type: ignore[override]
        """Unit features (B, D) of images, of their prompts, and of their neutral prompts."""
        return edit_margin(image_features, text_features, neutral_features)

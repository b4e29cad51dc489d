"""IP-Adapter Plus: the image prompt from all patches of an image (arXiv 2308.06721, section 4.4.2, and its release).

The penultimate hidden states of CLIP's image encoder are resampled to a few tokens by learned queries; the rest is
IP-Adapter. As in the release, a dropped image is what the encoder makes of an image of zeros after its normalisation,
the mean colour. That value is kept in the adapter. The resampler is as wide as the base model's tokens, as it is in the
release for SD 1.5, or narrower, as in the one for SDXL.
"""

import torch
from torch import Tensor, nn

from lightning_modules.image_prompt import ImagePrompt
from networks.backbone import Backbone
from networks.decoupled_attention import install_decoupled_attention
from networks.resampler import Resampler


class IPAdapterPlus(ImagePrompt):
    """Identity tokens from the patches of an image.

    ``image_tokens`` and ``image_width`` are the shape of the hidden states, ``tokens`` is the number of identity tokens
    and ``depth`` that of the resampler's layers (16 and 4 in the release). ``resampler_width`` is that of its channels:
    the base model's token width, or 1280 in the release for SDXL. ``scale`` is the strength of the identity
    branch when images are generated; 0 is the base model.
    """

    needs = ("clip_patches",)
    encoder = "image encoder"
    blank: Tensor
    """(image tokens, image width): the hidden states of an image of zeros; zeros until training begins."""

    def __init__(
        self,
        backbone: str | Backbone,
        image_width: int,
        image_tokens: int,
        revision: str | None = None,
        tokens: int = 16,
        depth: int = 4,
        resampler_width: int | None = None,
        scale: float = 1.0,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        self.scale, self.depth = scale, depth
        width = self.backbone.unet.config.cross_attention_dim
        self.project = Resampler(image_width, width, tokens, depth, resampler_width or width)
        self.attention = install_decoupled_attention(self.backbone.unet)
        self.register_buffer("blank", torch.zeros(image_tokens, image_width))

    def feature_shape(self) -> dict[str, int]:
        return dict(zip(("image_tokens", "image_width"), self.blank.shape, strict=True))

    def on_fit_start(self) -> None:
        """Set what no image is (on resuming, the checkpoint's replaces it)."""
        if not self.blank.any():
            self.blank.copy_(self.trainer.datamodule.features.nothing(self.needs[0]))  # type: ignore[attr-defined]

    def adapter(self) -> nn.ModuleDict:
        parts = super().adapter()
        parts.register_buffer("blank", self.blank)
        return parts

    def nobody(self, values: Tensor) -> Tensor:
        return self.blank.to(values.dtype).expand_as(values)

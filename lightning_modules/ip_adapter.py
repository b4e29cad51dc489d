"""IP-Adapter: an image prompt by decoupled cross-attention, the base method of the family (arXiv 2308.06721).

The plain form of the paper (section 3.2): the projected image embedding of CLIP becomes N tokens by a linear map and a
LayerNorm, and every cross-attention layer has keys and values for them beside those of the text (equation 5). A dropped
image is the zero embedding. Nothing here is reconstructed; what the paper leaves to the user, steps and batch, stands
in the configurations.
"""

from lightning_modules.image_prompt import ImagePrompt
from networks.backbone import Backbone
from networks.decoupled_attention import install_decoupled_attention
from networks.spotdiff_heads import Alignment


class IPAdapter(ImagePrompt):
    """Identity tokens from the projected CLIP embedding of an image.

    ``image_width`` is the width of that embedding, ``tokens`` the number of identity tokens (4 in the paper).
    ``scale`` is the strength of the identity branch when images are generated; 0 is the base model.
    """

    needs = ("clip_embeds",)
    encoder = "image encoder"

    def __init__(
        self,
        backbone: str | Backbone,
        image_width: int,
        revision: str | None = None,
        tokens: int = 4,
        scale: float = 1.0,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        self.scale = scale
        self.image_width = image_width
        self.project = Alignment(image_width, tokens, self.backbone.unet.config.cross_attention_dim)
        self.attention = install_decoupled_attention(self.backbone.unet)

    def feature_shape(self) -> dict[str, int]:
        return {"image_width": self.image_width}

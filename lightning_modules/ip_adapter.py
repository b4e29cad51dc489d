"""IP-Adapter: an image prompt by decoupled cross-attention, the base method of the family (arXiv 2308.06721).

The plain form of the paper (section 3.2): the projected image embedding of CLIP becomes N tokens by a linear map and a
LayerNorm, and every cross-attention layer has keys and values for them beside those of the text (equation 5). It is
trained on single images: each image is its own prompt. Nothing here is reconstructed; what the paper leaves to the
user, steps and batch, stands in the configurations.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from contracts.batch import PairBatch, RequestBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from lightning_modules.base import PersonalisationModule
from networks.backbone import Backbone
from networks.decoupled_attention import install_decoupled_attention
from networks.spotdiff_heads import Alignment

FEATURE = "clip_embeds"


class IPAdapter(PersonalisationModule[PairBatch]):
    """Identity tokens from the projected CLIP embedding of an image.

    ``image_width`` is the width of that embedding, ``tokens`` the number of identity tokens (4 in the paper).
    ``scale`` is the strength of the identity branch when images are generated; 0 is the base model.
    """

    needs = (FEATURE,)
    trains_in_parts = False

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

    def check_features(self, shape_of: Callable[[str], tuple[int, ...]]) -> None:
        (width,) = shape_of(FEATURE)
        if width != self.image_width:
            raise LikenessError(f"model.image_width is {self.image_width}, the image encoder's embeddings have {width}")

    def adapter(self) -> nn.ModuleDict:
        return nn.ModuleDict({"project": self.project, "attention": self.attention})

    def train_conditioning(self, batch: PairBatch) -> Conditioning:
        """The image that is generated is its own prompt; a dropped one is the zero embedding."""
        dropped = batch.drop_identity[:, None]
        embeddings = torch.where(dropped, 0.0, batch.second_view[FEATURE])
        return Conditioning.from_text(batch.text_states, identity=self.project(embeddings))

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        return self._conditioning(batch.text_states, batch.reference[FEATURE])

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The empty text and the zero embedding."""
        embeddings = batch.reference[FEATURE]
        empty = self.backbone.encode_text([""]).expand(len(embeddings), -1, -1)
        return self._conditioning(empty, torch.zeros_like(embeddings))

    def _conditioning(self, text: Tensor, embeddings: Tensor) -> Conditioning:
        return Conditioning.from_text(text, identity=self.project(embeddings), scale=self.scale)

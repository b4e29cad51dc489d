"""IP-Adapter FaceID: the image prompt from the embedding of a face recogniser (release of arXiv 2308.06721).

There is no paper of it; this is its release. The embedding of the face, of length 1, becomes N tokens by an MLP and a
LayerNorm. The keys and values are IP-Adapter's; beside them all attention layers of the UNet get low-rank updates. A
dropped image is the zero embedding. That no updates take part at scale 0 is ours, so that it is the base model.
"""

from torch import Tensor, nn

from contracts.errors import LikenessError
from lightning_modules.image_prompt import ImagePrompt
from networks.backbone import Backbone
from networks.decoupled_attention import install_decoupled_attention
from networks.lora_attention import install_updated_attention


class FaceProjection(nn.Module):
    """Face embeddings (B, ``width``) to identity tokens (B, ``tokens``, ``token_width``), with names as published."""

    def __init__(self, width: int, tokens: int, token_width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, tokens * token_width))
        self.norm = nn.LayerNorm(token_width)

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.norm(self.proj(embeddings).unflatten(-1, (-1, *self.norm.normalized_shape)))


class IPAdapterFaceID(ImagePrompt):
    """Identity tokens from the embedding of a face, and low-rank updates of the UNet's attentions.

    ``face_width`` is the width of the embedding, ``tokens`` the number of identity tokens, ``lora_rank`` the rank of
    the updates (4 and 128 in the release); ``None`` is without updates. ``scale`` is the strength of the tokens when
    images are generated. The updates have their full strength at any scale but 0, which is the base model.
    """

    needs = ("face_embedding",)
    encoder = "face recogniser"

    def __init__(
        self,
        backbone: str | Backbone,
        face_width: int = 512,
        revision: str | None = None,
        tokens: int = 4,
        lora_rank: int | None = 128,
        scale: float = 1.0,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        if lora_rank is not None and lora_rank < 1:
            raise LikenessError(f"model.lora_rank is {lora_rank}, it must be at least 1, or null for no updates")
        self.scale = scale
        self.face_width = face_width
        unet = self.backbone.unet
        self.project = FaceProjection(face_width, tokens, unet.config.cross_attention_dim)
        self.updates: nn.ModuleDict | None = None
        if lora_rank is None:
            self.attention = install_decoupled_attention(unet)
        else:
            self.attention, self.updates = install_updated_attention(unet, lora_rank)

    def feature_shape(self) -> dict[str, int]:
        return {"face_width": self.face_width}

    def adapter(self) -> nn.ModuleDict:
        parts = super().adapter()
        if self.updates is not None:
            parts["updates"] = self.updates
        return parts

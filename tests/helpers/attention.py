"""Inputs of a tiny UNet whose cross-attention reads identity tokens."""

import torch
from torch import Tensor

from contracts.conditioning import Conditioning
from contracts.text import Text
from networks.backbone import Backbone
from pocket.tiny.components import TEXT_LENGTH, TEXT_WIDTH

BATCH = 3
TOKENS = 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LATENTS = normal(BATCH, 4, 16, 16)
TIMESTEPS = torch.tensor([0, 500, 999])
TEXT = normal(BATCH, TEXT_LENGTH, TEXT_WIDTH, seed=1)
IDENTITY = normal(BATCH, TOKENS, TEXT_WIDTH, seed=2)
WITHOUT_IDENTITY = {
    "none": {},
    "scale 0": {"identity": IDENTITY, "scale": 0.0},
    "not yet": {"identity": IDENTITY, "identity_until": 0},
}
"""Arguments of :func:`predict` that leave identity out, by what they are called."""


def predict(backbone: Backbone, **identity: object) -> Tensor:
    """The UNet's prediction (B, C, h, w) for ``LATENTS`` at ``TIMESTEPS``, with further fields of the conditioning."""
    step = Conditioning.from_text(Text(TEXT), **identity).at(TIMESTEPS)
    return backbone.unet(
        LATENTS, TIMESTEPS, encoder_hidden_states=step.text_keys, cross_attention_kwargs={"conditioning": step}
    ).sample

"""Cross-attention that reads keys and values apart, and shows its probabilities where a loss asks for them.

Keys come from C^K, values from C^V (arXiv 2402.00631, framework figure). In training, the layers of one resolution
compute the probabilities of the prompt and of a reference prompt for the same query. All other layers keep the fused
kernel, and so does every layer when an image is generated.
"""

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from contracts.conditioning import Conditioning, StepConditioning
from networks.attention import (
    CrossAttention,
    attention,
    cross_attention_layers,
    install_cross_attention,
    split_heads,
)


@dataclass(frozen=True, kw_only=True)
class ComparedStep(StepConditioning):
    """What cross-attention reads in a training step whose attention is compared with that of another prompt."""

    reference: Tensor
    """(B, L, D): text states of the reference prompt."""
    side: int
    """Layers whose query grid has side x side cells are compared: each notes (A_t, A_r), probabilities
    (B, heads, cells, L) of prompt and reference."""


@dataclass(frozen=True, kw_only=True)
class ComparedConditioning(Conditioning):
    """Conditioning of a training batch whose layers note what the attention loss reads, see :class:`ComparedStep`."""

    reference: Tensor
    side: int

    def at(self, timestep: Tensor) -> ComparedStep:
        step = super().at(timestep)
        return ComparedStep(**vars(step), reference=self.reference, side=self.side)


class StageCrossAttention(CrossAttention):
    """The processor of a cross-attention layer; it has no weights of its own."""

    def read(self, attn: Attention, query: Tensor, conditioning: StepConditioning) -> Tensor:
        key = split_heads(attn, attn.to_k(conditioning.text_keys))
        value = split_heads(attn, attn.to_v(conditioning.text_values))
        if not isinstance(conditioning, ComparedStep) or query.shape[2] != conditioning.side**2:
            return attention(query, key, value)
        probabilities = attention_probabilities(query, key)
        with torch.no_grad():
            wanted = attention_probabilities(query, split_heads(attn, attn.to_k(conditioning.reference)))
        self.noted = probabilities, wanted
        return probabilities.to(value.dtype) @ value


def attention_probabilities(query: Tensor, key: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) in float32: (B, heads, Q, d) and (B, heads, L, d) to (B, heads, Q, L)."""
    return (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).float().softmax(dim=-1)


def install_stage_attention(unet: UNet2DConditionModel) -> None:
    """Put the processors into ``unet``; with keys equal to values it computes what it computed before, bit for bit."""
    install_cross_attention(unet, {name: StageCrossAttention() for name in cross_attention_layers(unet)})

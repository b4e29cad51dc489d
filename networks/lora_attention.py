"""Low-rank updates of all projections of attention layers, self-attention too, beside decoupled cross-attention.

    W' = W + U D        D (rank x in), U (out x rank); D starts at random, U at zero (LoRA, arXiv 2106.09685)

for the query, key, value and output projection of each layer, as IP-Adapter FaceID has them. They are part of the
identity branch: without identity the layer is the base model's. Their strength is 1 at every other scale, as in the
release, whose scale is that of the tokens only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from contracts.conditioning import StepConditioning
from networks.attention import AttentionProcessor, SelfAttention
from networks.decoupled_attention import DecoupledCrossAttention, install_decoupled_attention

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out")


class LowRank(nn.Module):
    """(B, N, ``before``) to (B, N, ``after``) by way of ``rank`` channels."""

    def __init__(self, before: int, after: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(before, rank, bias=False)
        self.up = nn.Linear(rank, after, bias=False)
        nn.init.normal_(self.down.weight, std=1 / rank)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        return self.up(self.down(states))


class _Beside(NamedTuple):
    """What processors read of an attention layer."""

    heads: int
    to_q: Callable[[Tensor], Tensor]
    to_k: Callable[[Tensor], Tensor]
    to_v: Callable[[Tensor], Tensor]
    to_out: list[Callable[[Tensor], Tensor]]


class LayerUpdates(nn.Module):
    """The updates of one attention layer's four projections."""

    def __init__(self, attn: Attention, rank: int) -> None:
        super().__init__()
        for name in PROJECTIONS:
            linear = projection(attn, name)
            setattr(self, name, LowRank(linear.in_features, linear.out_features, rank))

    def beside(self, attn: Attention) -> Any:
        """``attn`` with the updated projections, as far as processors read it."""

        def updated(name: str) -> Any:
            own, update = projection(attn, name), getattr(self, name)
            return lambda states: own(states) + update(states)

        query, key, value, out = map(updated, PROJECTIONS)
        return _Beside(attn.heads, query, key, value, [out, attn.to_out[1]])


def projection(attn: Attention, name: str) -> nn.Linear:
    """A layer's own projection; that of the output is followed by a dropout."""
    return attn.to_out[0] if name == "to_out" else getattr(attn, name)


class _Updated(AttentionProcessor):
    """A processor whose layer has updates, where there is identity."""

    updates: LayerUpdates

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        conditioning: StepConditioning | None = None,
    ) -> Tensor:
        if conditioning is not None and conditioning.identity is not None:
            attn = self.updates.beside(attn)
        return super().__call__(attn, hidden_states, conditioning=conditioning)


class UpdatedSelfAttention(_Updated, SelfAttention):
    """Self-attention with updates."""

    def __init__(self, updates: LayerUpdates) -> None:
        self.updates = updates


class UpdatedCrossAttention(_Updated, DecoupledCrossAttention):
    """Decoupled cross-attention with updates; the identity tokens' keys and values have none."""


def install_updated_attention(unet: UNet2DConditionModel, rank: int) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """Put the processors into ``unet``.

    Returns:
        The identity tokens' projections by cross-attention layer, and the updates by attention layer.
    """
    projections = install_decoupled_attention(unet, processor=UpdatedCrossAttention)
    updates = nn.ModuleDict()
    processors = dict(unet.attn_processors)
    for path, processor in processors.items():
        name = path.removesuffix(".processor")
        attn = unet.get_submodule(name)
        with torch.device(attn.to_k.weight.device):
            new = LayerUpdates(attn, rank)
        updates[name.replace(".", "-")] = new
        if isinstance(processor, UpdatedCrossAttention):
            processor.updates = new
        else:
            processors[path] = UpdatedSelfAttention(new)
    unet.set_attn_processor(processors)
    return projections, updates

"""The class noun learns where its thing is, by the token loss of TokenCompose (arXiv 2312.03626).

In large text-to-image models a noun attends to what it names. Here every image shows a person and every caption says
so. The noun tells the model nothing new, and without this loss its attention lies nowhere in particular.
"""

import math

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor


class WatchedAttention:
    """Plain attention that records where queries look in the text.

    Every cross-attention layer appends its probabilities (B, Q, L), the mean over the heads, to ``maps``.
    """

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, Q, h) to (B, Q, h)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.to_q(hidden_states)
        key = attn.to_k(context)
        value = attn.to_v(context)
        query, key, value = (attn.head_to_batch_dim(x) for x in (query, key, value))
        shares = attn.get_attention_scores(query, key)
        if encoder_hidden_states is not None:
            self.maps.append(shares.unflatten(0, (-1, attn.heads)).mean(dim=1))
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(shares @ value)))


def grounding_loss(maps: list[Tensor], nouns: Tensor, masks: Tensor) -> Tensor:
    """(B,): the share of the noun's attention that lies outside the mask, squared; the mean over the layers.

    ``maps`` are attention probabilities (B, Q, L) of each layer, ``nouns`` (B, L) is 1 at the noun, ``masks``
    (B, 1, H, W) in 0..1. 0 for a text without the noun.
    """
    return torch.stack([share_outside(shares, nouns, masks).square() for shares in maps]).mean(dim=0)


def share_outside(shares: Tensor, nouns: Tensor, masks: Tensor) -> Tensor:
    """(B,): the share of the noun's attention (B, Q, L) that lies outside the mask; 0 without a noun."""
    side = math.isqrt(shares.shape[1])
    away = 1 - F.interpolate(masks, size=(side, side), mode="area").flatten(1)
    noun = torch.einsum("bql,bl->bq", shares.float(), nouns)
    return (noun * away).sum(dim=1) / noun.sum(dim=1).clamp(min=1e-12)

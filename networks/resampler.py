"""The resampler of IP-Adapter Plus: learned queries that read all patches of an image (Flamingo's perceiver).

The names of the weights are those of the published files, so these are read and written as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 64
"""Channels of a head, in every published file."""


class Resampler(nn.Module):
    """Hidden states (B, T, ``image_width``) to identity tokens (B, ``tokens``, ``token_width``).

    It works in ``width`` channels, in heads of 64 (one head where the width is smaller); ``depth`` layers.
    """

    def __init__(self, image_width: int, token_width: int, tokens: int, depth: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, width) * width**-0.5)
        self.proj_in = nn.Linear(image_width, width)
        self.layers = nn.ModuleList(ResamplerLayer(width) for _ in range(depth))
        self.proj_out = nn.Linear(width, token_width)
        self.norm_out = nn.LayerNorm(token_width)

    def forward(self, states: Tensor) -> Tensor:
        latents = self.latents.expand(len(states), -1, -1)
        states = self.proj_in(states)
        for layer in self.layers:
            latents = layer(states, latents)
        return self.norm_out(self.proj_out(latents))


class ResamplerLayer(nn.ModuleList):
    """What the latents read, and an MLP, each added to them."""

    def __init__(self, width: int) -> None:
        super().__init__([PerceiverAttention(width), _feed_forward(width)])

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        """(B, T, width) and (B, N, width) to (B, N, width)."""
        latents = latents + self[0](states, latents)
        return latents + self[1](latents)


class PerceiverAttention(nn.Module):
    """Queries from the latents, keys and values from states and latents together; all are normalised first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // HEAD) * HEAD
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        """(B, T, width) and (B, N, width) to (B, N, width)."""
        latents = self.norm2(latents)
        both = torch.cat([self.norm1(states), latents], dim=1)
        query, key, value = (
            part.unflatten(-1, (-1, HEAD)).transpose(1, 2)
            for part in (self.to_q(latents), *self.to_kv(both).chunk(2, -1))
        )
        return self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
    )

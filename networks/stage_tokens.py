"""The token vectors of SeFi-IDE: one (key, value) pair for each stage of denoising (arXiv 2402.00631).

A subject's token has n = stages x 2 vectors, or n = stages where key and value are one vector. There are two
parametrisations: a self-attention module that emits all vectors, and free vectors. Both begin at the class noun's
embedding, so that the first step is that of the base model. The paper does not say how they begin; this is our
reconstruction.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.subject_tensors import VECTORS


class TokenEmitter(nn.Module):
    """The self-attention module: embedding e0 (D,) of the class noun to n vectors (n, D).

    y = e0 + A(LN(e0));  y = y + A'(LN(y));  vectors = GEGLU(LN(y)), without a residual

    8 heads of 64, inner width 4 D. Its form is that of ProSpect (arXiv 2305.16225), which SeFi-IDE's figure shows in
    the same place. Dropout is left out: with a single photo it only adds noise. The last layer begins at zero with e0
    as its bias, which makes every vector e0.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.attentions = nn.ModuleList([_SelfAttention(width) for _ in range(2)])
        self.expand = nn.Linear(width, 8 * width)
        self.emit = nn.Linear(4 * width, count * width)

    @torch.no_grad()
    def start_at(self, vectors: Tensor) -> None:
        """Make the module emit ``vectors`` (n, D) whatever it is given."""
        self.emit.weight.zero_()
        self.emit.bias.copy_(vectors.flatten())

    def forward(self, initial: Tensor) -> Tensor:
        y = initial[None]
        for norm, attention in zip(self.norms, self.attentions, strict=False):
            y = y + attention(norm(y))
        inner, gate = self.expand(self.norms[2](y)).chunk(2, dim=-1)
        return self.emit(inner * F.gelu(gate)).view(-1, initial.shape[-1])


class _SelfAttention(nn.Module):
    """Attention of a sequence (N, D) to itself, 8 heads of 64. Of a single token it is a linear map."""

    def __init__(self, width: int, heads: int = 8, head_width: int = 64) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(0, 1) for layer in (self.to_q, self.to_k, self.to_v)
        )
        share = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        return self.to_out((share @ value).transpose(0, 1).flatten(1))


class FreeVectors(nn.Module):
    """n vectors that are trained as they are (the ablation): far fewer parameters, the same call."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(count, width))

    @torch.no_grad()
    def start_at(self, vectors: Tensor) -> None:
        """Begin at ``vectors`` (n, D)."""
        self.vectors.copy_(vectors)

    def forward(self, initial: Tensor) -> Tensor:
        return self.vectors


class StageTokens(nn.Module):
    """What SeFi-IDE trains for one subject: its token vectors (stages, sides, tokens, D) = ``shape``; a side is key or
    value. ``kind`` is their parametrisation, one for each text encoder: ``widths`` add up to D.
    """

    initial: Tensor

    def __init__(
        self,
        kind: type[TokenEmitter] | type[FreeVectors],
        shape: tuple[int, int, int, int],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        *self.places, width = shape
        self.widths = tuple(widths)
        self.tokens = nn.ModuleList(kind(own, math.prod(self.places)) for own in widths)
        self.register_buffer("initial", torch.zeros(width))

    @torch.no_grad()
    def start_at(self, vectors: Tensor, noun: Tensor) -> None:
        """Begin at ``vectors`` (stages, sides, tokens, D), with the embedding (D,) of the class ``noun`` as input."""
        for tokens, own in zip(self.tokens, vectors.flatten(0, -2).split(self.widths, dim=-1), strict=True):
            tokens.start_at(own)  # type: ignore[operator]
        self.initial.copy_(noun)

    def forward(self) -> dict[str, Tensor]:
        parts = zip(self.tokens, self.initial.split(self.widths), strict=True)
        vectors = torch.cat([tokens(own) for tokens, own in parts], dim=-1)
        return {VECTORS: vectors.unflatten(0, self.places)}

"""The token vectors of SeFi-IDE: one (key, value) pair for each stage of denoising (arXiv 2402.00631).

A subject's token has n = stages x 2 vectors, or n = stages where key and value are one vector. There are two
parametrisations: a self-attention module that emits all vectors, and free vectors. Both begin at the class noun's
embedding, so that the first step is that of the base model. The paper does not say how they begin; this is our
reconstruction.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap


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


class SubjectSlots(nn.Module):
    """Independent copies of a token module, one per subject that is optimised at the same time.

    Every parameter is stacked along a first dimension of S slots. No slot depends on another one, as long as the
    optimiser works element by element and gradients are clipped by :func:`clip_each`.
    """

    initial: Tensor

    def __init__(self, make: Callable[[], nn.Module], slots: int, width: int) -> None:
        super().__init__()
        with torch.device("meta"):
            # Kept out of the registered parts: it has shapes and no weights.
            self._one = (make(),)
        device = torch.get_default_device()
        self.stacked = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(torch.zeros(slots, *value.shape, device=device))
                for name, value in self._one[0].named_parameters()
            }
        )
        self.register_buffer("initial", torch.zeros(slots, width))

    def __len__(self) -> int:
        return len(self.initial)

    @torch.no_grad()
    def fill(self, slot: int, module: nn.Module, initial: Tensor) -> None:
        """Put a subject's module and the embedding (D,) of its class noun into a slot."""
        self.initial[slot] = initial
        for name, value in module.named_parameters():
            self.stacked[name.replace(".", "/")][slot] = value.to(self.initial.device)

    def forward(self, slots: Tensor) -> Tensor:
        """The vectors (B, n, D) of ``slots`` (B,)."""
        parameters = {name.replace("/", "."): value[slots] for name, value in self.stacked.items()}

        def one(values: dict[str, Tensor], initial: Tensor) -> Tensor:
            return functional_call(self._one[0], values, (initial,))

        return vmap(one)(parameters, self.initial[slots])


def clip_each(parameters: list[nn.Parameter], limit: float) -> None:
    """Scale gradients so that in each slot (first dimension) their norm over all parameters is at most ``limit``.

    The norm over all slots, which is usually clipped, would couple subjects.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    norms = torch.stack([g.flatten(1).pow(2).sum(dim=1) for g in gradients]).sum(dim=0).sqrt()
    factors = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))

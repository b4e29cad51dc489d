"""Least-squares concept erasure (LEACE; Belrose et al. 2023, arXiv 2306.03819): no linear map reads a concept."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

_NULL = 1e-6
"""Eigenvalues of a covariance below this share of the largest one count as 0."""


class Erasure(nn.Module):
    """r(x) = x - A (x - mean): the least change of x after which its covariance with the concepts is 0.

    With W the whitening of x and U an orthonormal basis of the columns of W Cov(x, concepts), A is W^+ U U^T W (theorem
    4.3 of the paper). Nothing is taken off before :meth:`fit`. The state also holds what each of ``concepts`` concepts
    alone takes off, so that it can be given back.
    """

    mean: Tensor
    removed: Tensor
    parts: Tensor
    fitted: Tensor

    def __init__(self, width: int, concepts: int = 1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("removed", torch.zeros(width, width))
        self.register_buffer("parts", torch.zeros(concepts, width, width))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, D), in float32: in bfloat16 the erased parts would come back as rounding."""
        with _in_float32(x):
            x = x.float()
            return x - self._off(x, self.removed)

    def given(self, x: Tensor, shares: Tensor) -> Tensor:
        """(B, D): of what each concept takes off ``x`` (B, D), the share ``shares`` (B, concepts), added up."""
        with _in_float32(x):
            parts = torch.stack([self._off(x.float(), part) for part in self.parts], dim=1)
            return (shares[..., None] * parts).sum(dim=1)

    def _off(self, x: Tensor, projector: Tensor) -> Tensor:
        return (x - self.mean.float()) @ projector.float().T

    @torch.no_grad()
    def fit(self, x: Tensor, concepts: Sequence[Tensor]) -> None:
        """Take off ``x`` (N, D) what is linear in it of all ``concepts``, (N, K) each, for all that follows."""
        if len(concepts) != len(self.parts):
            raise ValueError(f"{len(self.parts)} concepts are expected, not {len(concepts)}")
        mean = x.double().mean(dim=0)
        x = x.double() - mean
        values, vectors = torch.linalg.eigh(x.T @ x / len(x))
        kept = values > _NULL * values.max()
        values, vectors = values[kept], vectors[:, kept]
        whiten = (vectors * values.rsqrt()) @ vectors.T
        colour = (vectors * values.sqrt()) @ vectors.T

        def projector(concept: Tensor) -> Tensor:
            concept = concept.double() - concept.double().mean(dim=0)
            basis, strength, _ = torch.linalg.svd(whiten @ (x.T @ concept) / len(x), full_matrices=False)
            basis = basis[:, strength > _NULL * strength.max()]
            return colour @ basis @ basis.T @ whiten

        self.mean.copy_(mean)
        self.removed.copy_(projector(torch.cat(list(concepts), dim=1)))
        self.parts.copy_(torch.stack([projector(concept) for concept in concepts]))
        self.fitted.fill_(True)


def _in_float32(x: Tensor) -> AbstractContextManager:
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def principal_part(z: Tensor, count: int) -> Tensor:
    """The ``count`` principal components (N, count) of ``z`` (N, D), all of them where D is less."""
    centred = (z - z.mean(dim=0)).double()
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:count]
    return centred @ directions.T

"""Least-squares concept erasure (LEACE; Belrose et al. 2023, arXiv 2306.03819): no linear map reads a concept."""

import torch
from torch import Tensor, nn

_NULL = 1e-6
"""Eigenvalues of a covariance below this share of the largest one count as 0."""


class Erasure(nn.Module):
    """r(x) = x - A (x - mean): the least change of x after which its covariance with the concepts is 0.

    With W the whitening of x and U an orthonormal basis of the columns of W Cov(x, concepts), A is W^+ U U^T W (theorem
    4.3 of the paper). Nothing is taken off before :meth:`fit`.
    """

    mean: Tensor
    removed: Tensor
    fitted: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("removed", torch.zeros(width, width))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, D)."""
        return x - (x - self.mean) @ self.removed.T

    @torch.no_grad()
    def fit(self, x: Tensor, concepts: Tensor) -> None:
        """Take off ``x`` (N, D) what is linear in it of ``concepts`` (N, K), for all that follows."""
        x, concepts = x.double(), concepts.double()
        mean = x.mean(dim=0)
        x, concepts = x - mean, concepts - concepts.mean(dim=0)
        values, vectors = torch.linalg.eigh(x.T @ x / len(x))
        kept = values > _NULL * values.max()
        values, vectors = values[kept], vectors[:, kept]
        whiten = (vectors * values.rsqrt()) @ vectors.T
        colour = (vectors * values.sqrt()) @ vectors.T
        basis, strength, _ = torch.linalg.svd(whiten @ (x.T @ concepts) / len(x), full_matrices=False)
        basis = basis[:, strength > _NULL * strength.max()]
        self.mean.copy_(mean)
        self.removed.copy_(colour @ basis @ basis.T @ whiten)
        self.fitted.fill_(True)


def principal_part(z: Tensor, count: int) -> Tensor:
    """The ``count`` principal components (N, count) of ``z`` (N, D), all of them where D is less."""
    centred = (z - z.mean(dim=0)).double()
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:count]
    return centred @ directions.T

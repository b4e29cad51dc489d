"""SpotDiff's experts and subject head on CLIP image features (arXiv 2510.07340; SpotDiff-R, our reconstruction).

Every output lives in the same R^D as the standardised feature f, so that inner products between them mean something.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureStandardiser(nn.Module):
    """f = LayerNorm((c - mean) / |c - mean|): CLIP features share a large common direction, which is taken off first.

    ``mean`` (D,) is the mean feature of the training set, set once before training.
    """

    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, D) pooled CLIP feature to f (B, D)."""
        return self.norm(F.normalize(clip - self.mean, dim=-1))


class Expert(nn.Module):
    """E(f): an MLP D -> hidden -> D with a LayerNorm, for one nuisance factor (pose or background)."""

    def __init__(self, width: int, hidden: int = 1024) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.LayerNorm(width))

    def forward(self, f: Tensor) -> Tensor:
        """(B, D) to z (B, D)."""
        return self.layers(f)


class SubjectHead(nn.Module):
    """z_s = f + MLP(f), the subject feature."""

    def __init__(self, width: int, hidden: int = 1024) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, f: Tensor) -> Tensor:
        """(B, D) to z_s (B, D)."""
        return f + self.layers(f)


class Alignment(nn.Module):
    """Subject feature to N identity tokens in the text encoder's width."""

    def __init__(self, width: int, tokens: int, token_width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.project = nn.Linear(width, tokens * token_width)
        self.norm = nn.LayerNorm(token_width)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) to (B, N, token_width)."""
        return self.norm(self.project(z).unflatten(-1, (self.tokens, -1)))


def remove_directions(z: Tensor, directions: list[Tensor]) -> Tensor:
    """(I - U U^T) z per sample: z (B, D) without its part in the span of ``directions`` (each (B, D)).

    U is the orthonormal basis that QR gives (Gram-Schmidt per sample).
    """
    if not directions:
        return z
    basis = torch.linalg.qr(torch.stack(directions, dim=-1).float()).Q.to(z.dtype)
    return z - (basis @ (basis.transpose(-1, -2) @ z[..., None]))[..., 0]

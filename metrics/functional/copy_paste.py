"""The copy-paste score of MultiID-Bench (WithAnyone, arXiv 2510.14975): is a face nearer to the photo that was seen?

(angle(face, other) - angle(face, reference)) / angle(other, reference): 1 for a copy of the reference, -1 for a copy of
the other photo. A high cosine to the reference alone cannot tell a good likeness from a pasted one.
"""

import torch
from torch import Tensor


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Angles in radians between unit vectors (..., D), in float64.

    By the arctangent of half-sums, which is exact where the arccosine loses half the digits: for equal vectors.
    """
    a, b = a.double(), b.double()
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def copy_paste_score(faces: Tensor, reference: Tensor, held_out: Tensor) -> Tensor:
    """Scores (B,) of unit embeddings (B, D) against a ``reference`` (B, D) and photos ``held_out`` (B, K, D).

    The mean over the K photos; at K = 1 it is MultiID-Bench's. A row of zeros stands for no photo, and photos equal to
    the reference say nothing: both are left out. NaN where none is left, or the reference is a row of zeros.
    """
    span = angle(held_out, reference[:, None])
    kept = held_out.any(dim=-1) & (span > 1e-6) & reference.any(dim=-1)[:, None]
    to_others = angle(faces[:, None], held_out)
    to_reference = angle(faces, reference)[:, None]
    scores = torch.where(kept, (to_others - to_reference) / span, 0.0)
    return scores.sum(dim=1) / kept.sum(dim=1)

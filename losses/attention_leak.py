"""Identity attention outside the face."""

import math

import torch.nn.functional as F
from torch import Tensor


def attention_leak(norms: Tensor, face: Tensor) -> Tensor:
    """L_att per sample, (B,), in 0..1: the share of the identity branch's output that lies outside the face.

    ``norms`` (B, Q) is the length of that output at each pixel of a square grid, ``face`` (B, 1, h, w) the soft mask in
    0..1. With A = norms / sum(norms), L_att = |A - A m|_1. This is PIDiff-R, our reconstruction. Softmax weights cannot
    be used: over identity tokens alone they add up to 1 at every pixel.
    """
    side = math.isqrt(norms.shape[1])
    if side * side != norms.shape[1]:
        raise ValueError(f"{norms.shape[1]} queries are no square grid")
    outside = 1.0 - F.interpolate(face.float(), (side, side), mode="area").flatten(1)
    return (norms * outside).sum(1) / norms.sum(1).clamp(min=1e-12)

"""The denoising loss inside the face (PIDiff-R, our reconstruction of arXiv 2505.05081)."""

from torch import Tensor

from losses.diffusion import masked_mean


def face_loss(prediction: Tensor, target: Tensor, face: Tensor) -> Tensor:
    """L_face per sample, (B,): mean squared error over the face.

    L_face = sum(m (eps_hat - eps)^2) / sum(m) for ``prediction`` and ``target`` (B, C, h, w) and the soft mask m
    ``face`` (B, 1, h, w) in 0..1. Identity tokens are asked to explain the face only.
    """
    return masked_mean((prediction.float() - target.float()) ** 2, face)

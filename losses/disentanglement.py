"""Another face must not change the rest of the image."""

from torch import Tensor

from losses.diffusion import diffusion_loss


def disentanglement_loss(prediction: Tensor, other: Tensor, face: Tensor) -> Tensor:
    """L_disen per sample, (B,): mean((M (eps_hat(w) - sg[eps_hat(w~)]))^2) with M = 1 - ``face``.

    ``other`` (B, C, h, w) is the prediction for a changed W+ code w~ and the same input. It is a target and gets no
    gradient. ``face`` (B, 1, h, w) in 0..1 is a soft mask. The mean is over the whole latent (W+ Adapter, arXiv
    2311.17461, as released). The loss is 0 where the code is unchanged.
    """
    outside = 1.0 - face.float()
    return diffusion_loss(outside * prediction.float(), outside * other.detach().float())

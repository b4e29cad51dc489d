"""The prediction stays that of the base model in a region that identity must not change."""

from torch import Tensor

from losses.diffusion import masked_mean


def preservation_loss(prediction: Tensor, base: Tensor, region: Tensor) -> Tensor:
    """Mean squared distance per sample, (B,), to what the base model predicts, over ``region`` (B, 1, h, w) in 0..1.

    ``base`` (B, C, h, w) is the prediction without identity for the same input. It is a target and gets no gradient.
    With the region 1 - m, where m is the mask of the face, this is L_bg of PIDiff-R (our reconstruction of arXiv
    2505.05081). With ones everywhere it is L_pres of W+ Adapter (arXiv 2311.17461).
    """
    return masked_mean((prediction.float() - base.detach().float()) ** 2, region)

"""Keep what the base model draws where identity has no business."""

from torch import Tensor

from losses.masked import masked_mean


def preservation_loss(prediction: Tensor, base: Tensor, region: Tensor) -> Tensor:
    """Mean squared distance per sample, (B,), to what the base model predicts, over ``region`` (B, 1, h, w) in 0..1.

    ``base`` (B, C, h, w) is the prediction without identity for the same input and is a target, never pushed. With 1 -
    m as region this is L_bg of PIDiff-R (our reconstruction of arXiv 2505.05081), with ones L_pres of W+ Adapter (arXiv
    2311.17461).
    """
    return masked_mean((prediction.float() - base.detach().float()) ** 2, region)

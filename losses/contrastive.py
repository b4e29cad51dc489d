"""Supervised InfoNCE, by which an expert learns its nuisance factor in training stage 1 of SpotDiff-R."""

import torch
import torch.nn.functional as F
from torch import Tensor


def supervised_info_nce(z: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    """Mean over the anchors of -log share of the positives, for z (B, D) and labels (B,).

    Positives of an anchor are the other samples with its label; every other sample is a negative (Khosla et al.
    2020, equation 2). SpotDiff's own formula is not known; this is the reconstruction. An anchor without a
    positive is left out; without any positive the loss is 0.
    """
    unit = F.normalize(z.float(), dim=-1)
    logits = unit @ unit.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_share = logits.masked_fill(itself, -torch.inf).log_softmax(dim=1).masked_fill(itself, 0.0)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    count = positive.sum(1)
    per_anchor = -(log_share * positive).sum(1) / count.clamp(min=1)
    return per_anchor[count > 0].mean() if bool((count > 0).any()) else z.sum() * 0.0

"""The orthogonality constraint of SpotDiff-R."""

import torch
import torch.nn.functional as F
from torch import Tensor


def orthogonality_loss(subject: Tensor, nuisances: list[Tensor]) -> Tensor:
    """L_orth per sample, (B,): the sum of cos(z_s, sg[z])^2 over the experts' features z, each (B, D).

    The experts' features are targets and get no gradient. The squared cosine is our reconstruction, as the paper's
    exact formula is not known. Without experts the loss is 0.
    """
    total = torch.zeros(len(subject), device=subject.device)
    for z in nuisances:
        total = total + F.cosine_similarity(subject.float(), z.detach().float(), dim=-1) ** 2
    return total


def view_invariance_loss(first: Tensor, second: Tensor) -> Tensor:
    """L_inv per sample, (B,): 1 - cos between the subject features (B, D) of two views of one subject.

    It keeps the subject feature from escaping the constraint into noise (reconstruction).
    """
    return 1.0 - F.cosine_similarity(first.float(), second.float(), dim=-1)

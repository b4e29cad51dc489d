"""The attention loss of SeFi-IDE."""

import torch
from torch import Tensor


def attention_alignment_loss(maps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """L_att per sample, (B,): ||A_t - A_r||^2 of every token, averaged over heads and layers (arXiv 2402.00631).

    ``maps`` holds a pair for each layer: probabilities (B, heads, cells, L) of the prompt with the subject's token, and
    of the reference prompt with the class noun. The second one is the target and gets no gradient. The paper gives
    neither norm nor reduction. Ours is the squared norm, summed over tokens and cells.
    """
    layers = [(found - wanted.detach()).float().pow(2).sum(dim=(2, 3)).mean(dim=1) for found, wanted in maps]
    return torch.stack(layers).mean(dim=0)

"""The attention loss of SeFi-IDE."""

import torch
from torch import Tensor

CELLS = 32 * 32
"""Cells of the attention maps that the paper draws: the scale on which its weights are meant."""


def attention_alignment_loss(maps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """L_att per sample, (B,): ||A_t - A_r||^2 of every token, averaged over heads and layers (arXiv 2402.00631).

    ``maps`` holds, for each layer, probabilities (B, heads, cells, L) of the prompt with the subject's token and of
    the reference prompt with the class noun; the latter is the target and never pushed. The paper gives neither norm
    nor reduction. Ours is the squared norm, summed over tokens and cells, the cells counted as if each map had 32 x 32
    of them, so that a weight means the same at any resolution.
    """
    layers = [(found - wanted.detach()).float().pow(2).sum(dim=-1).mean(dim=(1, 2)) for found, wanted in maps]
    return CELLS * torch.stack(layers).mean(dim=0)

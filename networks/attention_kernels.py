"""Attention by the kernel that is the fastest for what is asked."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V: (B, heads, Q, d), (B, heads, L, d) and (B, heads, L, d) to (B, heads, Q, d).

    PyTorch chooses the kernel, but where a graph is recorded on a CPU in bfloat16: the fused kernel's backward takes
    longer there than the whole rest of a training step, and these plain products do not. Its forward is fast there too.
    """
    if torch.is_grad_enabled() and query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return scores.softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value)

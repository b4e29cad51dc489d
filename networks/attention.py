"""What every attention processor shares: its interface, the heads, the kernel, and how it gets into a UNet."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from contracts.conditioning import StepConditioning


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V: (B, heads, Q, d), (B, heads, L, d) and (B, heads, L, d) to (B, heads, Q, d).

    PyTorch chooses the kernel, with one exception: where a graph is recorded on a CPU in bfloat16, these are plain
    matrix products. The backward pass of the fused kernel takes longer there than the whole rest of a training step.
    Its forward pass is fast there too.
    """
    if torch.is_grad_enabled() and query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return scores.softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


def split_heads(attn: Attention, states: Tensor) -> Tensor:
    """(B, N, heads * d) to (B, heads, N, d)."""
    return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def join_heads(states: Tensor) -> Tensor:
    """(B, heads, N, d) to (B, N, heads * d)."""
    return states.transpose(1, 2).flatten(2)


class AttentionProcessor:
    """What diffusers calls for an attention layer. The query and the output projection are the layer's own.

    diffusers gives the conditioning to every layer of the UNet, as one of its ``cross_attention_kwargs``.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        conditioning: StepConditioning | None = None,
    ) -> Tensor:
        """(B, Q, h) to (B, Q, h). Text states and mask are not read."""
        query = split_heads(attn, attn.to_q(hidden_states))
        out = self.attend(attn, query, hidden_states, conditioning)
        return attn.to_out[1](attn.to_out[0](join_heads(out).to(query.dtype)))

    def attend(
        self, attn: Attention, query: Tensor, hidden_states: Tensor, conditioning: StepConditioning | None
    ) -> Tensor:
        """What the layer's ``query`` (B, heads, Q, d) reads, (B, heads, Q, d)."""
        raise NotImplementedError


class SelfAttention(AttentionProcessor):
    """The base model's self-attention. It does not read the conditioning."""

    def attend(
        self, attn: Attention, query: Tensor, hidden_states: Tensor, conditioning: StepConditioning | None
    ) -> Tensor:
        key = split_heads(attn, attn.to_k(hidden_states))
        value = split_heads(attn, attn.to_v(hidden_states))
        return attention(query, key, value)


class CrossAttention(AttentionProcessor):
    """A cross-attention layer whose keys and values are made from the conditioning, which may tell them apart."""

    noted: Any = None
    """What the layer noted in the last call of the UNet, where the conditioning asks for it; see :func:`taken_notes`.
    A list for all layers would be of another length at each of them, and each would be compiled by itself."""

    def attend(
        self, attn: Attention, query: Tensor, hidden_states: Tensor, conditioning: StepConditioning | None
    ) -> Tensor:
        if conditioning is None:
            raise ValueError(
                "cross-attention needs the conditioning; call the UNet through PersonalisationModule.denoise"
            )
        return self.read(attn, query, conditioning)

    def read(self, attn: Attention, query: Tensor, conditioning: StepConditioning) -> Tensor:
        """What the layer's ``query`` (B, heads, Q, d) reads from the conditioning, (B, heads, Q, d)."""
        raise NotImplementedError


def cross_attention_layers(unet: UNet2DConditionModel) -> "OrderedDict[str, Attention]":
    """The UNet's cross-attention layers (``attn2``) by module path, in the UNet's own order."""
    return OrderedDict((name, module) for name, module in unet.named_modules() if name.endswith("attn2"))


def taken_notes(unet: UNet2DConditionModel) -> list[Any]:
    """What the cross-attention layers noted in the last call of ``unet``. They forget it."""
    found = []
    for processor in unet.attn_processors.values():
        if isinstance(processor, CrossAttention) and processor.noted is not None:
            found.append(processor.noted)
            processor.noted = None
    return found


def install_cross_attention(unet: UNet2DConditionModel, processors: Mapping[str, CrossAttention]) -> None:
    """Put ``processors``, by module path of their cross-attention layer, into ``unet``, and :class:`SelfAttention` into
    all other layers."""
    every: dict[str, object] = {name: SelfAttention() for name in unet.attn_processors}
    every.update({f"{name}.processor": processor for name, processor in processors.items()})
    unet.set_attn_processor(every)

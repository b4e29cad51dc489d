"""Decoupled cross-attention: identity tokens get keys and values of their own beside the text's.

    out = A(Q, K_text, V_text) + scale * A(Q, K_id, V_id)        (IP-Adapter, arXiv 2308.06721, equation 5)

The query and the output projection are the frozen layer's own. SpotDiff's text does not say where its tokens enter;
this form in every cross-attention layer is our reconstruction.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from contracts.conditioning import Conditioning, StepConditioning
from networks.attention import (
    CrossAttention,
    attention,
    cross_attention_layers,
    install_cross_attention,
    split_heads,
)


@dataclass(frozen=True, kw_only=True)
class MeasuredStep(StepConditioning):
    """What cross-attention reads where each layer shall note how strong identity is: the length (B, Q) of its identity
    branch's output per query, with its gradient."""


@dataclass(frozen=True, kw_only=True)
class MeasuredConditioning(Conditioning):
    """Conditioning under which layers note what :class:`MeasuredStep` says."""

    def at(self, timestep: Tensor) -> MeasuredStep:
        step = super().at(timestep)
        return MeasuredStep(**vars(step))


class IdentityProjections(nn.Module):
    """Keys and values of the identity tokens in one layer, started as copies of the layer's own."""

    def __init__(self, attn: Attention) -> None:
        super().__init__()
        width = attn.to_k.in_features
        inner = attn.to_k.out_features
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        if not attn.to_k.weight.is_meta:
            self.to_k.load_state_dict({"weight": attn.to_k.weight.detach().clone()})
            self.to_v.load_state_dict({"weight": attn.to_v.weight.detach().clone()})


class DecoupledCrossAttention(CrossAttention):
    """The processor of one cross-attention layer. Without identity it computes what the base model computes."""

    def __init__(self, projections: IdentityProjections) -> None:
        self.projections = projections

    def read(self, attn: Attention, query: Tensor, conditioning: StepConditioning) -> Tensor:
        out = attention(
            query,
            split_heads(attn, attn.to_k(conditioning.text_keys)),
            split_heads(attn, attn.to_v(conditioning.text_values)),
        )
        if conditioning.identity is None or conditioning.scale is None:
            return out
        identity = attention(
            self.identity_query(attn, query, out),
            split_heads(attn, self.projections.to_k(conditioning.identity)),
            split_heads(attn, self.projections.to_v(conditioning.identity)),
        )
        if isinstance(conditioning, MeasuredStep):
            self.noted = torch.linalg.vector_norm(identity.float(), dim=(1, 3))
        return out + conditioning.scale.view(-1, 1, 1, 1).to(identity.dtype) * identity

    def identity_query(self, attn: Attention, query: Tensor, attended: Tensor) -> Tensor:
        """The query of the identity tokens, (B, heads, Q, d): here the text's own ``query``.

        ``attended`` (B, heads, Q, d) is what that query read from the text.
        """
        return query


def install_decoupled_attention(
    unet: UNet2DConditionModel,
    layer: Callable[[Attention], IdentityProjections] = IdentityProjections,
    processor: type[DecoupledCrossAttention] = DecoupledCrossAttention,
) -> nn.ModuleDict:
    """Put the processors into ``unet`` and return the new weights, one ``layer`` per cross-attention layer.

    The weights are not part of the UNet's state, so the frozen model stays a file of its own.
    """
    projections = nn.ModuleDict()
    processors = {}
    for name, attn in cross_attention_layers(unet).items():
        device = torch.device("meta") if attn.to_k.weight.is_meta else attn.to_k.weight.device
        with device:
            new = layer(attn)
        projections[name.replace(".", "-")] = new
        processors[name] = processor(new)
    install_cross_attention(unet, processors)
    return projections

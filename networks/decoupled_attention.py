"""Decoupled cross-attention: identity tokens get keys and values of their own beside the text's.

    out = A(Q, K_text, V_text) + scale * A(Q, K_id, V_id)        (IP-Adapter, arXiv 2308.06721, equation 5)

The query and the output projection are the frozen layer's own. SpotDiff's text does not say where its tokens enter;
this form in every cross-attention layer is our reconstruction.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from contracts.conditioning import StepConditioning
from networks.attention_kernels import attention


class SelfAttention:
    """The base model's self-attention; it is handed the conditioning too and has no use for it."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        conditioning: StepConditioning | None = None,
    ) -> Tensor:
        """(B, Q, h) to (B, Q, h)."""
        query, key, value = (split_heads(attn, to(hidden_states)) for to in (attn.to_q, attn.to_k, attn.to_v))
        joined = join_heads(attention(query, key, value)).to(query.dtype)
        return attn.to_out[1](attn.to_out[0](joined))


class IdentityProjections(nn.Module):
    """Keys and values of the identity tokens in one layer, started as copies of the layer's own."""

    def __init__(self, attn: Attention) -> None:
        super().__init__()
        width, inner = attn.to_k.in_features, attn.to_k.out_features
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        if not attn.to_k.weight.is_meta:
            self.to_k.load_state_dict({"weight": attn.to_k.weight.detach().clone()})
            self.to_v.load_state_dict({"weight": attn.to_v.weight.detach().clone()})


class DecoupledCrossAttention:
    """The processor of one cross-attention layer. Without identity it computes what the base model computes.

    ``encoder_hidden_states`` is not read: keys and values come from ``conditioning``, which may tell them apart.
    """

    def __init__(self, projections: IdentityProjections) -> None:
        self.projections = projections
        self.norms: list[Tensor] | None = None
        """Where to note how strong identity is at each query; see :func:`identity_norms`."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        conditioning: StepConditioning | None = None,
    ) -> Tensor:
        """(B, Q, h) to (B, Q, h)."""
        if conditioning is None:
            raise ValueError(
                "cross-attention needs the conditioning; call the UNet through PersonalisationModule.denoise"
            )
        query = split_heads(attn, attn.to_q(hidden_states))
        out = attention(
            query,
            split_heads(attn, attn.to_k(conditioning.text_keys)),
            split_heads(attn, attn.to_v(conditioning.text_values)),
        )
        if conditioning.identity is not None and conditioning.scale is not None:
            identity = attention(
                self.identity_query(attn, query, out),
                split_heads(attn, self.projections.to_k(conditioning.identity)),
                split_heads(attn, self.projections.to_v(conditioning.identity)),
            )
            if self.norms is not None:
                self.norms.append(torch.linalg.vector_norm(identity.float(), dim=(1, 3)))
            out = out + conditioning.scale.view(-1, 1, 1, 1).to(identity.dtype) * identity
        joined = join_heads(out).to(query.dtype)
        return attn.to_out[1](attn.to_out[0](joined))

    def identity_query(self, attn: Attention, query: Tensor, attended: Tensor) -> Tensor:
        """What asks for identity, (B, heads, Q, d): here the text's own ``query``, not the values that it
        ``attended``."""
        return query


def split_heads(attn: Attention, states: Tensor) -> Tensor:
    """(B, N, heads * d) to (B, heads, N, d)."""
    return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def join_heads(states: Tensor) -> Tensor:
    """(B, heads, N, d) to (B, N, heads * d)."""
    return states.transpose(1, 2).flatten(2)


def cross_attention_layers(unet: UNet2DConditionModel) -> "OrderedDict[str, Attention]":
    """The UNet's cross-attention layers (``attn2``) by module path, in the UNet's own order."""
    return OrderedDict((name, module) for name, module in unet.named_modules() if name.endswith("attn2"))


def install_decoupled_attention(
    unet: UNet2DConditionModel,
    layer: Callable[[Attention], IdentityProjections] = IdentityProjections,
    processor: type[DecoupledCrossAttention] = DecoupledCrossAttention,
) -> nn.ModuleDict:
    """Put the processors into ``unet`` and return the new weights, one ``layer`` per cross-attention layer.

    The weights are not part of the UNet's state, so the frozen model stays a file of its own.
    """
    projections = nn.ModuleDict()
    processors: dict[str, object] = {name: SelfAttention() for name in unet.attn_processors}
    for name, attn in cross_attention_layers(unet).items():
        device = torch.device("meta") if attn.to_k.weight.is_meta else attn.to_k.weight.device
        with device:
            new = layer(attn)
        projections[name.replace(".", "-")] = new
        processors[f"{name}.processor"] = processor(new)
    unet.set_attn_processor(processors)
    return projections


@contextmanager
def identity_norms(unet: UNet2DConditionModel) -> Iterator[list[Tensor]]:
    """Collect, from the calls of ``unet`` inside the block, the length of the identity branch's output per query.

    One (B, Q) tensor for each cross-attention layer, in the order of computation, with its gradient.
    """
    processors = [p for p in unet.attn_processors.values() if isinstance(p, DecoupledCrossAttention)]
    norms: list[Tensor] = []
    for processor in processors:
        processor.norms = norms
    try:
        yield norms
    finally:
        for processor in processors:
            processor.norms = None

"""Residual cross-attention: identity is a residual on what the text already chose.

    f'  = A(W_q f, W_k c, W_v c)                                  the layer's own, frozen
    f'' = f' + scale * A(W_q+ f', W_k+ w, W_v+ w)                 W+ Adapter, arXiv 2311.17461
    out = W_o f''                                                 frozen

The query of the identity tokens w is made from the text-attended values f', not from the hidden state f. That PIDiff's
block (arXiv 2505.05081) has this form is our reconstruction: its formula is not known.
"""

import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from networks.attention import join_heads, split_heads
from networks.decoupled_attention import DecoupledCrossAttention, IdentityProjections, install_decoupled_attention


class ResidualProjections(IdentityProjections):
    """W_q+, W_k+ and W_v+ of one layer, without biases, started as copies of the layer's own projections.

    While ``query_frozen`` no gradient reaches W_q+.
    """

    def __init__(self, attn: Attention) -> None:
        super().__init__(attn)
        self.to_q = nn.Linear(attn.to_q.out_features, attn.to_q.out_features, bias=False)
        if not attn.to_q.weight.is_meta:
            self.to_q.load_state_dict({"weight": attn.to_q.weight.detach().clone()})
        self.query_frozen = False

    def query(self, attended: Tensor) -> Tensor:
        """(B, Q, h) text-attended values to queries (B, Q, h)."""
        weight = self.to_q.weight.detach() if self.query_frozen else self.to_q.weight
        return F.linear(attended, weight)


class ResidualCrossAttention(DecoupledCrossAttention):
    """The processor of one layer with :class:`ResidualProjections`."""

    projections: ResidualProjections

    def identity_query(self, attn: Attention, query: Tensor, attended: Tensor) -> Tensor:
        """W_q+ f', (B, heads, Q, d)."""
        return split_heads(attn, self.projections.query(join_heads(attended).to(query.dtype)))


def install_residual_attention(unet: UNet2DConditionModel) -> nn.ModuleDict:
    """Put the processors into ``unet`` and return the new weights, one :class:`ResidualProjections` per layer."""
    return install_decoupled_attention(unet, ResidualProjections, ResidualCrossAttention)


def freeze_queries(projections: nn.ModuleDict, frozen: bool) -> None:
    """Let the gradient reach W_q+ of every layer, or not. The decoupled form has no W_q+."""
    for layer in projections.values():
        if isinstance(layer, ResidualProjections):
            layer.query_frozen = frozen

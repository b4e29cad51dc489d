import math

import pytest
import torch
from torch import Tensor

from contracts.conditioning import StepConditioning
from contracts.text import Text
from networks.attention import cross_attention_layers, taken_notes
from networks.backbone import Backbone
from networks.decoupled_attention import MeasuredConditioning, install_decoupled_attention
from networks.residual_attention import (
    ResidualCrossAttention,
    ResidualProjections,
    freeze_queries,
    install_residual_attention,
)
from tests.helpers.attention import BATCH, IDENTITY, LATENTS, TEXT, TIMESTEPS, WITHOUT_IDENTITY, normal, predict


@pytest.mark.parametrize("identity", WITHOUT_IDENTITY.values(), ids=WITHOUT_IDENTITY)
def test_without_identity_it_is_the_base_model_bit_for_bit(backbone: Backbone, stock: Backbone, identity: dict) -> None:
    install_residual_attention(backbone.unet)
    with torch.no_grad():
        assert torch.equal(predict(backbone, **identity), stock.unet(LATENTS, TIMESTEPS, TEXT).sample)


def test_new_weights_begin_as_copies_of_the_layers_own(backbone: Backbone) -> None:
    projections = install_residual_attention(backbone.unet)
    layers = cross_attention_layers(backbone.unet)
    assert len(layers) == len(projections) > 0
    for attn, new in zip(layers.values(), projections.values(), strict=True):
        for name in ("to_q", "to_k", "to_v"):
            own = getattr(attn, name).weight
            copy = getattr(new, name).weight
            assert torch.equal(own, copy) and own.data_ptr() != copy.data_ptr()
        assert [n for n, _ in new.named_parameters()] == ["to_k.weight", "to_v.weight", "to_q.weight"]


def test_identity_is_asked_for_by_the_values_that_the_text_attended(backbone: Backbone) -> None:
    """The formula, written out with softmax, on one layer."""
    attn = next(iter(cross_attention_layers(backbone.unet).values()))
    new = ResidualProjections(attn)
    with torch.no_grad():
        for parameter in new.parameters():
            parameter += 0.1 * normal(*parameter.shape, seed=3)
        states = normal(BATCH, 64, attn.to_q.in_features, seed=4)
        scale = torch.tensor([0.5, 1.0, 2.0])
        found = ResidualCrossAttention(new)(attn, states, conditioning=StepConditioning(TEXT, TEXT, IDENTITY, scale))

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (x.view(BATCH, -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2) for x in (q, k, v))
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            return (weights @ v).transpose(1, 2).flatten(2)

        text = attend(attn.to_q(states), attn.to_k(TEXT), attn.to_v(TEXT))
        identity = attend(new.to_q(text), new.to_k(IDENTITY), new.to_v(IDENTITY))
        expected = attn.to_out[0](text + scale[:, None, None] * identity)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_queries_can_be_frozen(backbone: Backbone, frozen: bool) -> None:
    projections = install_residual_attention(backbone.unet)
    freeze_queries(projections, frozen)
    predict(backbone, identity=IDENTITY).square().mean().backward()
    touched = {name.split(".", 1)[1] for name, p in projections.named_parameters() if p.grad is not None}
    assert touched == {"to_k.weight", "to_v.weight"} | (set() if frozen else {"to_q.weight"})
    assert all(p.grad is None for p in backbone.unet.parameters())


def predicted_norms(backbone: Backbone) -> list[Tensor]:
    """What the layers note while the UNet predicts."""
    measured = MeasuredConditioning.from_text(Text(TEXT), identity=IDENTITY)
    given = {"encoder_hidden_states": TEXT, "cross_attention_kwargs": {"conditioning": measured.at(TIMESTEPS)}}
    backbone.unet(LATENTS, TIMESTEPS, **given)
    return taken_notes(backbone.unet)


@pytest.mark.parametrize("install", [install_residual_attention, install_decoupled_attention])
def test_norms_are_those_of_the_identity_branch(backbone: Backbone, install) -> None:  # type: ignore[no-untyped-def]
    projections = install(backbone.unet)
    norms = predicted_norms(backbone)
    assert len(norms) == len(projections) and all(n.shape == (BATCH, 64) and n.requires_grad for n in norms)
    for layer in projections.values():
        layer.to_v.weight.data.zero_()
    with torch.no_grad():
        silent = predicted_norms(backbone)
    assert len(silent) == len(norms) and all((n == 0).all() for n in silent)

import math

import pytest
import torch
from torch import Tensor, nn

from contracts.conditioning import StepConditioning
from networks.attention import cross_attention_layers
from networks.backbone import Backbone
from networks.decoupled_attention import IdentityProjections, install_decoupled_attention
from pocket.tiny.components import TEXT_LENGTH, TEXT_WIDTH
from tests.helpers.attention import BATCH, IDENTITY, LATENTS, TEXT, TIMESTEPS, WITHOUT_IDENTITY, normal, predict


@pytest.mark.parametrize("identity", WITHOUT_IDENTITY.values(), ids=WITHOUT_IDENTITY)
def test_without_identity_it_is_the_base_model_bit_for_bit(backbone: Backbone, stock: Backbone, identity: dict) -> None:
    install_decoupled_attention(backbone.unet)
    with torch.no_grad():
        assert torch.equal(predict(backbone, **identity), stock.unet(LATENTS, TIMESTEPS, TEXT).sample)


def test_identity_changes_the_images_that_it_takes_part_in(backbone: Backbone, stock: Backbone) -> None:
    install_decoupled_attention(backbone.unet)
    with torch.no_grad():
        base = stock.unet(LATENTS, TIMESTEPS, TEXT).sample
        whole = predict(backbone, identity=IDENTITY)
        late = predict(backbone, identity=IDENTITY, identity_until=500)
    assert [torch.equal(whole[i], base[i]) for i in range(BATCH)] == [False, False, False]
    assert [torch.equal(late[i], base[i]) for i in range(BATCH)] == [False, True, True]


def test_new_weights_begin_as_copies_of_the_layers_own(backbone: Backbone) -> None:
    projections = install_decoupled_attention(backbone.unet)
    layers = cross_attention_layers(backbone.unet)
    assert len(layers) == len(projections) > 0
    assert all(name.endswith("attn2") for name in layers)
    for (name, attn), projection in zip(layers.items(), projections.values(), strict=True):
        assert isinstance(projection, IdentityProjections) and projections[name.replace(".", "-")] is projection
        assert torch.equal(projection.to_k.weight, attn.to_k.weight)
        assert torch.equal(projection.to_v.weight, attn.to_v.weight)
        assert projection.to_k.weight.data_ptr() != attn.to_k.weight.data_ptr()
        assert all(parameter.requires_grad for parameter in projection.parameters())


def test_the_frozen_models_state_has_no_new_entries(backbone: Backbone, stock: Backbone) -> None:
    install_decoupled_attention(backbone.unet)
    assert set(backbone.state_dict()) == set(stock.state_dict())


def test_gradient_reaches_the_new_weights_and_the_tokens_only(backbone: Backbone) -> None:
    projections = install_decoupled_attention(backbone.unet)
    tokens = IDENTITY.clone().requires_grad_(True)
    predict(backbone, identity=tokens).pow(2).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in projections.parameters())
    assert tokens.grad is not None and tokens.grad.any()
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_one_layer_is_equation_five(backbone: Backbone) -> None:
    projections = install_decoupled_attention(backbone.unet)
    name, attn = next(iter(cross_attention_layers(backbone.unet).items()))
    projection = projections[name.replace(".", "-")]
    nn.init.normal_(projection.to_k.weight)
    nn.init.normal_(projection.to_v.weight)
    hidden = normal(BATCH, 9, attn.to_q.in_features, seed=3)
    values = normal(BATCH, TEXT_LENGTH, TEXT_WIDTH, seed=4)
    scale = torch.tensor([0.0, 0.5, 2.0])
    step = StepConditioning(TEXT, values, IDENTITY, scale)

    def attend(keys: Tensor, values: Tensor) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.view(BATCH, x.shape[1], attn.heads, -1).permute(0, 2, 1, 3)

        query = heads(attn.to_q(hidden))
        weights = (query @ heads(keys).transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)
        return (weights @ heads(values)).permute(0, 2, 1, 3).flatten(2)

    with torch.no_grad():
        mixed = attend(attn.to_k(TEXT), attn.to_v(values))
        mixed = mixed + scale[:, None, None] * attend(projection.to_k(IDENTITY), projection.to_v(IDENTITY))
        found = attn.processor(attn, hidden, conditioning=step)
        torch.testing.assert_close(found, attn.to_out[0](mixed), atol=1e-5, rtol=1e-4)


def test_a_call_without_conditioning_is_a_mistake(backbone: Backbone) -> None:
    install_decoupled_attention(backbone.unet)
    with pytest.raises(ValueError, match="cross-attention needs the conditioning"):
        backbone.unet(LATENTS, TIMESTEPS, TEXT)

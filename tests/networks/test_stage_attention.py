import torch

from contracts.conditioning import Conditioning
from contracts.text import Text
from networks.attention import taken_notes
from networks.backbone import Backbone
from networks.stage_attention import ComparedConditioning, attention_probabilities, install_stage_attention

PROMPT = "a photo of a person, in a garden"


def noisy(size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(size, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([100, 900])[:size]


def predict(backbone: Backbone, conditioning: Conditioning) -> torch.Tensor:
    z, t = noisy(conditioning.batch)
    step = conditioning.at(t)
    return backbone.unet(
        z, t, encoder_hidden_states=step.text_keys, cross_attention_kwargs={"conditioning": step}, return_dict=False
    )[0]


def test_equal_keys_and_values_are_the_base_model_bit_for_bit(stock: Backbone, backbone: Backbone) -> None:
    states = stock.encode_text([PROMPT] * 2).states
    z, t = noisy()
    install_stage_attention(backbone.unet)
    expected = stock.unet(z, t, encoder_hidden_states=states, return_dict=False)[0]
    assert torch.equal(predict(backbone, Conditioning.from_text(Text(states))), expected)


def test_keys_decide_where_and_values_what(backbone: Backbone) -> None:
    install_stage_attention(backbone.unet)
    states = backbone.encode_text([PROMPT] * 2).states[:, None]
    other = backbone.encode_text(["an oil painting of a person"] * 2).states[:, None]
    same = predict(backbone, Conditioning(states, states))
    for keys, values in ((other, states), (states, other)):
        assert not torch.allclose(predict(backbone, Conditioning(keys, values)), same, atol=1e-6)
    maps = []
    for values in (states, other):
        predict(backbone, compared(states, values, states[:, 0]))
        maps.append(taken_notes(backbone.unet))
    torch.testing.assert_close(maps[0][0][0], maps[1][0][0])


def compared(keys: torch.Tensor, values: torch.Tensor, reference: torch.Tensor) -> ComparedConditioning:
    return ComparedConditioning(text_keys=keys, text_values=values, reference=reference, side=8)


def test_only_the_chosen_layers_show_their_probabilities(backbone: Backbone) -> None:
    install_stage_attention(backbone.unet)
    states = backbone.encode_text([PROMPT] * 2).states[:, None]
    reference = backbone.encode_text(["a pencil sketch of a person"] * 2).states.requires_grad_()
    keys = states.clone().requires_grad_()
    out = predict(backbone, compared(keys, states, reference))
    maps = taken_notes(backbone.unet)
    # Latents of 16 cells a side: one layer down, one in the middle and two up work at 8.
    assert len(maps) == 4
    for found, wanted in maps:
        assert found.shape == wanted.shape == (2, 2, 64, 24)
        torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 64))
        assert found.requires_grad and not wanted.requires_grad
    torch.testing.assert_close(out, predict(backbone, Conditioning(keys, states)), rtol=0, atol=1e-5)


def test_without_a_difference_both_maps_are_one(backbone: Backbone) -> None:
    """F1, on the side of attention: the same keys for the same query."""
    install_stage_attention(backbone.unet)
    states = backbone.encode_text([PROMPT] * 2).states
    predict(backbone, compared(states[:, None], states[:, None], states))
    maps = taken_notes(backbone.unet)
    assert maps and not taken_notes(backbone.unet)
    assert all(torch.equal(found, wanted) for found, wanted in maps)


def test_probabilities_are_the_fused_kernels() -> None:
    query, key, value = torch.randn(3, 2, 2, 5, 4, generator=torch.Generator().manual_seed(0)).unbind()
    fused = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attention_probabilities(query, key) @ value, fused)

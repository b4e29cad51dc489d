"""The noun's attention: what is watched, and what the loss makes of it."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from pocket.models.base_model import build_unet
from pocket.models.grounding import WatchedAttention, grounding_loss, share_outside

MASK = torch.zeros(1, 1, 8, 8)
MASK[..., :2] = 1.0  # the left quarter


def looks(at: list[int], cells: int = 16, words: int = 3) -> torch.Tensor:
    """(1, cells, words): the noun, word 1, is read by these cells alone."""
    shares = torch.full((1, cells, words), 0.2)
    shares[..., 1] = 0.0
    shares[:, at, 1] = 0.5
    return shares


def test_share_outside_is_of_the_nouns_own_attention() -> None:
    noun = torch.tensor([[0.0, 1.0, 0.0]])
    assert share_outside(looks([0, 4]), noun, MASK).item() == pytest.approx(0.0)  # the first of four columns
    assert share_outside(looks([0, 1, 2, 3]), noun, MASK).item() == pytest.approx(0.75)
    assert share_outside(looks([3]), torch.zeros(1, 3), MASK).item() == 0.0  # a text without the noun


def test_a_cell_that_the_mask_half_covers_is_half_inside() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :1] = 1.0
    assert share_outside(looks([0]), torch.tensor([[0.0, 1.0, 0.0]]), mask).item() == pytest.approx(0.5)


def test_the_loss_is_the_mean_of_squares_over_layers_of_any_grid() -> None:
    noun = torch.tensor([[0.0, 1.0, 0.0]])
    maps = [looks([0, 1, 2, 3]), looks([3], cells=4)]  # 3/4 of it outside; cell 3 of 2 x 2 is outside altogether
    assert grounding_loss(maps, noun, MASK).tolist() == pytest.approx([(0.75**2 + 1) / 2])


def test_watched_attention_computes_what_stock_attention_does() -> None:
    torch.manual_seed(0)
    unet = build_unet()
    watched = WatchedAttention()
    z = torch.randn(2, 4, 16, 16)
    t = torch.tensor([10, 900])
    text = torch.randn(2, 5, 128)
    with torch.no_grad():
        unet.set_attn_processor(AttnProcessor())
        stock = unet(z, t, text).sample
        unet.set_attn_processor(watched)
        torch.testing.assert_close(unet(z, t, text).sample, stock, rtol=0, atol=1e-5)
    assert [tuple(shares.shape) for shares in watched.maps] == [(2, side**2, 5) for side in (16, 8, 8, 8, 8, 16, 16)]
    for shares in watched.maps:
        torch.testing.assert_close(shares.sum(dim=2), torch.ones(shares.shape[:2]))

"""Where the base model's loss looks, and where its noun does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from pocket.models import paths
from pocket.models.bank import load_bank
from pocket.models.base_model import (
    Phase,
    TrainingData,
    build_text_encoder,
    build_unet,
    inside,
    near,
    noun_id,
    token_ids,
    train_phase,
)
from pocket.models.grounding import WatchedAttention, share_outside
from pocket.render.captions import CLASS_NOUN


def test_inside_marks_the_cells_whose_centre_is_in_the_box() -> None:
    marked = inside(torch.tensor([[1.0, 0.0, 3.0, 2.4]]), 4)
    assert marked.shape == (1, 1, 4, 4)
    assert marked[0, 0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_near_marks_the_cells_around_each_point() -> None:
    marked = near(torch.tensor([[[1.5, 2.5], [7.9, 7.9]]]), 8)[0, 0]
    at = torch.arange(8) + 0.5
    expected = torch.zeros(8, 8)
    for x, y in ((1.5, 2.5), (7.9, 7.9)):
        expected[((at[None] - x) ** 2 + (at[:, None] - y) ** 2) ** 0.5 < 1.5] = 1
    assert torch.equal(marked, expected) and marked.sum() == 9 + 3


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(paths.BASE, subfolder="tokenizer")


def test_the_noun_is_one_word_of_a_caption(tokenizer: CLIPTokenizer) -> None:
    ids = token_ids(tokenizer, [f"a photo of a {CLASS_NOUN}", "a photo of a beach"])
    assert (ids == noun_id(tokenizer)).sum(dim=1).tolist() == [1, 0]


def test_a_grounded_phase_sees_the_shots_with_masks_only(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    bank = load_bank(tmp_path / "bank", subjects=2, shots=2)  # two of two subjects' shots have no mask
    moments = np.random.default_rng(0).standard_normal((4, 8, 16, 16)).astype(np.float16)

    def trained(name: str, changed: int, left: int, grounding: float) -> torch.Tensor:
        torch.manual_seed(0)
        unet = build_unet()
        text_encoder = build_text_encoder(tokenizer)
        shown = moments.copy()
        masks = np.full((2, 1, 64, 64), 255 - left, np.uint8)
        masks[..., :32] = left
        shown[changed] += 1
        phase = Phase(name, 3, 4, 1e-3, face=3.0, features=8.0, forming=0.5, grounding=grounding)
        train_phase(unet, text_encoder, TrainingData(bank, shown, masks, 1.0, tokenizer), tmp_path, 0, phase)
        return torch.cat([p.detach().flatten() for p in (*unet.parameters(), *text_encoder.parameters())])

    first = trained("first", changed=1, left=0, grounding=0.1)
    assert torch.equal(first, trained("unmasked shot", changed=3, left=0, grounding=0.1))
    assert not torch.equal(first, trained("masked shot", changed=2, left=0, grounding=0.1))
    assert not torch.equal(first, trained("another mask", changed=1, left=255, grounding=0.1))
    every = trained("every shot", changed=1, left=0, grounding=0.0)
    assert not torch.equal(every, trained("every shot, changed", changed=3, left=0, grounding=0.0))
    assert torch.equal(every, trained("masks unread", changed=1, left=255, grounding=0.0))


def test_a_grounded_phase_draws_the_nouns_attention_into_the_mask(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = build_unet()
    text_encoder = build_text_encoder(tokenizer)
    bank = load_bank(tmp_path / "bank", subjects=2, shots=1)
    moments = np.zeros((2, 8, 16, 16), np.float16)
    masks = np.zeros((2, 1, 64, 64), np.uint8)
    masks[..., :32] = 255

    def outside(unet: UNet2DConditionModel) -> float:
        ids = token_ids(tokenizer, bank.captions).long()
        unet.set_attn_processor(watched := WatchedAttention())
        with torch.no_grad():
            unet(torch.zeros(2, 4, 16, 16), torch.tensor([500, 500]), text_encoder(ids).last_hidden_state)
        nouns = (ids == noun_id(tokenizer)).float()
        covered = torch.from_numpy(masks).float() / 255
        return float(torch.stack([share_outside(shares, nouns, covered) for shares in watched.maps]).mean())

    before = outside(unet)
    phase = Phase("phase", 20, 2, 5e-3, face=0.0, grounding=1.0)
    train_phase(unet, text_encoder, TrainingData(bank, moments, masks, 1.0, tokenizer), tmp_path, 0, phase)
    assert before > 0.4 and outside(unet) < 0.5 * before

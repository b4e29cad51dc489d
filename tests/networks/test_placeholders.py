import pytest
import torch

from contracts.errors import LikenessError
from networks.backbone import Backbone
from networks.placeholders import place_subjects, single_token
from pocket.tiny.components import TEXT_LENGTH

WHO = {"subject": "person"}


@pytest.mark.parametrize(
    ("prompt", "before"),
    [
        ("<subject>", ""),
        ("a photo of a <subject>, wearing a red top hat", "a photo of a"),
        ("an oil painting of a <subject>'s hat", "an oil painting of a"),
        ("a photo, (<subject>)", "a photo, ("),
    ],
)
def test_the_subject_stands_where_the_noun_stood(stock: Backbone, prompt: str, before: str) -> None:
    placed = place_subjects(stock.tokenizer, prompt, WHO)
    spoken = stock.tokenizer(prompt.replace("<subject>", "person"), padding="max_length", truncation=True).input_ids
    assert placed.ids.tolist() == spoken and len(placed.ids) == TEXT_LENGTH
    position = 1 + len(stock.tokenizer(before, add_special_tokens=False).input_ids)
    assert placed.positions == {"subject": (position,)}
    assert placed.ids[position] == single_token(stock.tokenizer, "person")


def test_subjects_of_several_tokens_take_as_many_places(stock: Backbone) -> None:
    nouns = {"subject": "person", "s0226": "hat"}
    placed = place_subjects(stock.tokenizer, "a <s0226> on a <subject>, smiling", nouns, tokens=3)
    spoken = stock.tokenizer("a hat hat hat on a person person person, smiling", padding="max_length").input_ids
    assert placed.ids.tolist() == spoken
    assert placed.positions == {"s0226": (2, 3, 4), "subject": (7, 8, 9)}
    assert placed.every_position == [2, 3, 4, 7, 8, 9]
    with pytest.raises(LikenessError, match="<subject> reaches to token 23, behind the 22 that are read"):
        place_subjects(stock.tokenizer, "a photo, a photo, " * 3 + "a <subject>", WHO, tokens=4)


def test_two_subjects_have_a_place_each(stock: Backbone) -> None:
    nouns = {"subject": "person", "s0226": "hat"}
    placed = place_subjects(stock.tokenizer, "a photo of a <s0226> on a <subject>", nouns)
    assert list(placed.positions) == ["s0226", "subject"]
    found = [stock.tokenizer.decode([int(placed.ids[position])]).strip() for position in placed.every_position]
    assert found == ["hat", "person"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a photo", "has no placeholder: write <subject>"),
        ("a <subject> and a <subject>", "has 2 placeholders <subject>: one is allowed"),
        ("a <someone>", "<someone> names no subject; known: subject"),
        ("a super<subject>", "must stand alone"),
        ("a <subject>like hat", "must stand alone"),
        ("a photo of a person, " * 8 + "<subject>", "behind the 22 that are read"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_one_line(stock: Backbone, prompt: str, words: str) -> None:
    with pytest.raises(LikenessError) as raised:
        place_subjects(stock.tokenizer, prompt, WHO)
    assert words in str(raised.value) and prompt in str(raised.value) and "\n" not in str(raised.value)


def test_a_noun_of_several_tokens_is_refused(stock: Backbone) -> None:
    with pytest.raises(LikenessError, match=r"'wombat' is .* tokens of this text encoder"):
        single_token(stock.tokenizer, "wombat")


def test_the_nouns_own_embedding_gives_the_plain_prompt_bit_for_bit(stock: Backbone) -> None:
    """F1, on the side of the text encoder."""
    placed = place_subjects(stock.tokenizer, "a photo of a <subject>, in a garden", WHO)
    at = torch.tensor([placed.every_position])
    noun = stock.text.encoders[0].get_input_embeddings().weight[placed.ids[at]]
    states = stock.text.encode_placed(placed.ids[None], at, noun).states
    assert torch.equal(states, stock.encode_text(["a photo of a person, in a garden"]).states)


def test_other_vectors_reach_their_place_and_what_follows_only(stock: Backbone) -> None:
    """F4: the text transformer is causal."""
    placed = place_subjects(stock.tokenizer, "a photo of a <subject>, in a garden", WHO)
    (position,) = placed.positions["subject"]
    vector = torch.randn(1, 1, 32, requires_grad=True)
    states = stock.text.encode_placed(placed.ids[None], torch.tensor([[position]]), vector).states
    plain = stock.encode_text(["a photo of a person, in a garden"]).states
    torch.testing.assert_close(states[:, :position], plain[:, :position], rtol=0, atol=1e-6)
    assert ((states - plain)[:, position:].abs().amax(dim=-1) > 1e-4).all()
    states.sum().backward()
    assert vector.grad is not None and vector.grad.any()
    assert torch.equal(stock.encode_text(["a person"]).states, stock.encode_text(["a person"]).states), (
        "nothing stays behind"
    )

"""Prompts with subjects in them: where a subject's token stands, and text states with other vectors put there."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, plain_text


@dataclass(frozen=True)
class PlacedPrompt:
    """A prompt's tokens (L,), with the class noun where a subject stands, and the position of each subject's token."""

    ids: Tensor
    positions: dict[str, int]


def single_token(tokenizer: CLIPTokenizer, noun: str) -> int:
    """The token of a class noun.

    Raises :class:`LikenessError` when the noun is more than one token: a subject takes the place of exactly one.
    """
    ids = tokenizer(noun, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise LikenessError(
            f"the class noun {noun!r} is {len(ids)} tokens of this text encoder, a subject takes the place of exactly "
            "one: give a more common single word (column subject_class of the dataset)"
        )
    return ids[0]


def place_subjects(tokenizer: CLIPTokenizer, prompt: str, nouns: Mapping[str, str]) -> PlacedPrompt:
    """Tokens of ``prompt``, in which ``<NAME>`` stands for the subject NAME of ``nouns`` (class noun by name).

    Raises:
        LikenessError: no placeholder, one that names nobody, two of one name, one that is glued to other letters, or
            one behind the last token that the text encoder reads.
    """
    found = list(ANY_PLACEHOLDER.finditer(prompt))
    names, spoken = [match[1] for match in found], plain_text(prompt, nouns)
    if not names:
        raise LikenessError(f"the prompt {prompt!r} has no placeholder: write <{next(iter(nouns))}> for the subject")
    for name in names:
        if names.count(name) > 1:
            raise LikenessError(f"the prompt {prompt!r} has {names.count(name)} placeholders <{name}>: one is allowed")
    whole = tokenizer(spoken, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]
    positions = {}
    for match in found:
        noun = single_token(tokenizer, nouns[match[1]])
        before = plain_text(prompt[: match.start()], nouns)
        position = 1 + len(tokenizer(before, add_special_tokens=False).input_ids)
        if position >= len(whole) - 1:
            raise LikenessError(
                f"the prompt {prompt!r}: {match[0]} is token {position}, behind the {len(whole) - 2} that are read"
            )
        glued = any(letter.isalnum() for letter in (prompt[: match.start()][-1:], prompt[match.end() :][:1]))
        if glued or whole[position] != noun:
            raise LikenessError(f"the prompt {prompt!r}: {match[0]} must stand alone, not inside of another word")
        positions[match[1]] = position
    return PlacedPrompt(whole, positions)


def encode_placed(text_encoder: CLIPTextModel, ids: Tensor, positions: Tensor, vectors: Tensor) -> Tensor:
    """Text states (B, L, D) of the last layer, with other token embeddings in some places.

    ``ids`` (B, L), ``positions`` (B, P) and the ``vectors`` (B, P, D) that replace the embeddings there. The gradient
    reaches the vectors. With the tokens' own embeddings the states are those of ``Backbone.encode_text``, bit for bit.
    """
    rows = torch.arange(len(ids), device=ids.device)[:, None]

    def replace(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.index_put((rows, positions), vectors.to(output.dtype))

    handle = text_encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        return text_encoder(ids).last_hidden_state
    finally:
        handle.remove()

"""Prompts with subjects in them: which tokens are a subject's."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import CLIPTokenizer

from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, OWN, PLACEHOLDER, further_subjects, plain_text


@dataclass(frozen=True)
class PlacedPrompt:
    """A prompt's tokens, and where its subjects are."""

    ids: Tensor
    """(L,): the tokens, with the class noun in the places of a subject."""
    positions: dict[str, tuple[int, ...]]
    """Positions of each subject's tokens by placeholder, in the order of the prompt."""

    @property
    def every_position(self) -> list[int]:
        """The positions of all subjects' tokens, one subject after the other."""
        return [position for positions in self.positions.values() for position in positions]


def single_token(tokenizer: CLIPTokenizer, noun: str) -> int:
    """The token of a class noun.

    Raises :class:`LikenessError` when the noun is more than one token: a subject's vectors start from the embedding of
    a single one.
    """
    ids = tokenizer(noun, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise LikenessError(
            f"the class noun {noun!r} is {len(ids)} tokens of this text encoder, it must be exactly one: give a more "
            "common single word (column subject_class of the dataset)"
        )
    return ids[0]


def place_subjects(tokenizer: CLIPTokenizer, prompt: str, nouns: Mapping[str, str], tokens: int = 1) -> PlacedPrompt:
    """Tokens of ``prompt``, in which ``<NAME>`` stands for the subject NAME of ``nouns`` (class noun by name).

    Each subject takes ``tokens`` places, one after the other, and its class noun is in all of them.

    Raises:
        LikenessError: there is no placeholder, or one names no subject, occurs twice, touches other letters, or lies
            behind the last token that the text encoder reads.
    """
    found = list(ANY_PLACEHOLDER.finditer(prompt))
    names = [match[1] for match in found]
    spoken = {name: " ".join([noun] * tokens) for name, noun in nouns.items()}
    if not names:
        raise LikenessError(f"the prompt {prompt!r} has no placeholder: write <{next(iter(nouns))}> for the subject")
    for name in names:
        if names.count(name) > 1:
            raise LikenessError(f"the prompt {prompt!r} has {names.count(name)} placeholders <{name}>: one is allowed")
    text = plain_text(prompt, spoken)
    whole = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]
    positions = {}
    for match in found:
        noun = single_token(tokenizer, nouns[match[1]])
        before = plain_text(prompt[: match.start()], spoken)
        first = 1 + len(tokenizer(before, add_special_tokens=False).input_ids)
        last = first + tokens - 1
        if last >= len(whole) - 1:
            raise LikenessError(
                f"the prompt {prompt!r}: {match[0]} reaches to token {last}, behind the {len(whole) - 2} that are read"
            )
        if _glued(prompt, *match.span()) or (whole[first : last + 1] != noun).any():
            raise LikenessError(f"the prompt {prompt!r}: {match[0]} must stand alone, not inside of another word")
        positions[match[1]] = tuple(range(first, last + 1))
    return PlacedPrompt(whole, positions)


def check_worded(tokenizer: CLIPTokenizer, prompt: str, words: str) -> None:
    """Check a prompt for a method that puts ``words`` into the place of ``<subject>`` and knows no further subjects.

    Raises :class:`LikenessError` as :func:`place_subjects` does.
    """
    if others := sorted(further_subjects(prompt)):
        raise LikenessError(f"the prompt {prompt!r} names a second subject, <{others[0]}>: an image shows one")
    if (count := prompt.count(PLACEHOLDER)) != 1:
        raise LikenessError(f"the prompt {prompt!r} has {count} placeholders {PLACEHOLDER}: write it once")
    first = prompt.index(PLACEHOLDER)
    end = first + len(PLACEHOLDER)
    if _glued(prompt, first, end):
        raise LikenessError(f"the prompt {prompt!r}: {PLACEHOLDER} must stand alone, not inside of another word")
    last = len(tokenizer(plain_text(prompt[:end], {OWN: words}), add_special_tokens=False, verbose=False).input_ids)
    if last > (read := tokenizer.model_max_length - 2):
        raise LikenessError(
            f"the prompt {prompt!r}: {PLACEHOLDER} reaches to token {last}, behind the {read} that are read"
        )


def _glued(prompt: str, first: int, end: int) -> bool:
    """Whether a placeholder touches other letters."""
    return any(letter.isalnum() for letter in (prompt[:first][-1:], prompt[end:][:1]))

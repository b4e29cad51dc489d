"""Placeholders in prompts: ``<subject>`` is a request's own subject, ``<ID>`` any further one.

The text of a prompt set may hold ``<subject>`` twice. Whoever stands at the second place is decided for each request.
"""

import re
from collections.abc import Mapping

from contracts.errors import LikenessError

OWN = "subject"
PLACEHOLDER = f"<{OWN}>"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a placeholder may be called."""
ANY_PLACEHOLDER = re.compile(f"<({NAME.pattern})>")


def further_subjects(prompt: str) -> frozenset[str]:
    """The ids of the subjects that ``prompt`` names beside the request's own."""
    return frozenset(ANY_PLACEHOLDER.findall(prompt)) - {OWN}


def with_second(prompt: str, subject: str) -> str:
    """A ``prompt`` that holds ``<subject>`` twice with ``subject`` in the second place, as ``<ID>``."""
    first, between, last = prompt.split(PLACEHOLDER)
    return f"{first}{PLACEHOLDER}{between}<{subject}>{last}"


def plain_text(prompt: str, nouns: Mapping[str, str]) -> str:
    """``prompt`` without placeholders: for ``<NAME>`` stands the class noun ``nouns[NAME]``.

    Raises :class:`LikenessError` for a placeholder that names nobody.
    """

    def noun(match: re.Match[str]) -> str:
        if match[1] not in nouns:
            raise LikenessError(f"the prompt {prompt!r}: <{match[1]}> names no subject; known: {', '.join(nouns)}")
        return nouns[match[1]]

    return ANY_PLACEHOLDER.sub(noun, prompt)


def spoken(prompt: str, subject: str, class_nouns: Mapping[str, str]) -> str:
    """A subject's prompt as a model or a judge reads it that knows no subjects: class nouns, given by subject, stand in
    place of the placeholders. Raises as :func:`plain_text` does."""
    return plain_text(prompt, {**class_nouns, OWN: class_nouns[subject]})


def plain_prompt(prompt: str, subject: str, nouns: Mapping[str, str]) -> str:
    """:func:`spoken` with single spaces: what a judge reads."""
    return " ".join(spoken(prompt, subject, nouns).split())

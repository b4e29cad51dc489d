"""Prompt sets that a protocol's prompts are read from: YAML files, or DreamBench's own list."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, PLACEHOLDER
from contracts.protocol import Prompt, check_name, prompts_hash
from contracts.settings import ProtocolSettings
from contracts.strict_yaml import read_yaml
from leaderboard.plan.dreambench import dreambench_prompts

OWN_PROMPT = "own"
"""The class of a prompt that is given as a text."""
PROMPT_CLASSES = ("scene", "attribute", "action", "accessory", "style", "mix")
_KEYS = {"id", "class", "text"}


def prompts_of(wanted: ProtocolSettings, nouns: Collection[str] | None = None) -> tuple[Prompt, ...]:
    """The prompts of a protocol: those of its set that are for one of its subjects.

    Args:
        nouns: Class nouns of the subjects; ``None`` where they are not known, which leaves all prompts in.

    Raises:
        LikenessError: the set cannot be read (:func:`read_prompts`), or is for none of the subjects.
    """
    if wanted.prompts.endswith(".txt"):
        prompts = dreambench_prompts(Path(wanted.prompts), wanted.live, nouns)
    else:
        prompts = read_prompts(wanted.prompts, of_two=True)
        if wanted.live:
            raise LikenessError(f"protocol.live is for prompts_and_classes.txt, {wanted.prompts} is none: leave it out")
    if nouns is None:
        return prompts
    chosen = tuple(prompt for prompt in prompts if not prompt.nouns or set(prompt.nouns) & set(nouns))
    if not chosen:
        raise LikenessError(f"{wanted.prompts} has no prompt for {', '.join(sorted(set(nouns)))}")
    return chosen


def read_prompts(path: str, named: bool = True, of_two: bool = False) -> tuple[Prompt, ...]:
    """A prompt set from YAML, whose texts name the subject once, or where they are not ``named`` nobody. With
    ``of_two`` it may be a set whose texts all name two.

    Its keys: ``prompts``, a list of entries with ``id``, ``class`` and ``text``, and with ``nouns``, a list of class
    nouns, where a prompt is for some subjects only; ``placeholder``, what stands for the subject in the texts,
    ``<subject>`` if the key is left out; ``sha256``, the :func:`prompts_hash` of a set that is meant to stay as it is.

    Raises:
        LikenessError: the file is missing, names an entry that is not well formed, or is not what its hash says.
    """
    try:
        data = read_yaml(Path(path))
    except OSError as error:
        raise LikenessError(f"no prompts in {path} (key protocol.prompts): {error.strerror}") from error
    if isinstance(data, dict) and (unknown := data.keys() - {"prompts", "placeholder", "sha256"}):
        raise LikenessError(f"{path}: key {min(map(str, unknown))!r} is none of prompts, placeholder and sha256")
    entries = data.get("prompts") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise LikenessError(f"{path} has no list `prompts`")
    placeholder = data.get("placeholder", PLACEHOLDER)
    if not isinstance(placeholder, str) or not placeholder.strip():
        raise LikenessError(f"{path}: placeholder must be a text, such as {PLACEHOLDER}")
    prompts = tuple(_prompt(path, i, entry, placeholder, named, of_two) for i, entry in enumerate(entries))
    if len({prompt.of_two for prompt in prompts}) > 1:
        odd = next(prompt.id for prompt in prompts if prompt.of_two)
        raise LikenessError(f"{path}: {odd} is of two subjects and others are of one: make a set of each")
    repeated = {p.id for p in prompts if sum(p.id == other.id for other in prompts) > 1}
    if repeated:
        raise LikenessError(f"{path} names prompts twice: {', '.join(sorted(repeated))}")
    if "sha256" in data and data["sha256"] != prompts_hash(prompts):
        raise LikenessError(
            f"{path} was changed: its key sha256 does not fit its prompts; copy it under another name, without that key"
        )
    return prompts


def given_prompts(words: Sequence[str]) -> tuple[Prompt, ...]:
    """Prompts given on a command line: texts, whose ids are made of their words, and prompt sets (``FILE.yaml``).

    Raises:
        LikenessError: a text holds the placeholder neither once nor, for two subjects, twice, a set is not well formed,
            or two prompts share an id.
    """
    found: dict[str, Prompt] = {}
    for word in words:
        is_set = word.endswith((".yaml", ".yml"))
        for prompt in read_prompts(word, of_two=True) if is_set else (_own_prompt(word),):
            if found.setdefault(prompt.id, prompt) != prompt:
                raise LikenessError(
                    f"--prompts: {prompt.id} is the id of two prompts: give the sets one after the other"
                )
    if not found:
        raise LikenessError("--prompts is missing: a text with <subject> in it, or a prompt set")
    return tuple(found.values())


def _own_prompt(text: str) -> Prompt:
    text = " ".join(text.split())
    if text.count(PLACEHOLDER) not in (1, 2):
        raise LikenessError(f"--prompts: {text!r} must hold {PLACEHOLDER} once, or twice for two subjects")
    return Prompt(f"p{hashlib.sha256(text.encode()).hexdigest()[:8]}", OWN_PROMPT, text)


def _prompt(path: str, index: int, entry: object, placeholder: str, named: bool, of_two: bool) -> Prompt:
    if not isinstance(entry, dict) or entry.keys() - {"nouns"} != _KEYS:
        raise LikenessError(f"{path}: prompt {index} must have exactly id, class and text, and may have nouns")
    nouns = entry.get("nouns", [])
    if not isinstance(nouns, list) or not all(isinstance(noun, str) and noun for noun in nouns):
        raise LikenessError(f"{path}: nouns of prompt {index} must be a list of class nouns")
    name, prompt_class, text = (str(entry[key]) for key in ("id", "class", "text"))
    check_name("prompt", name)
    if prompt_class not in PROMPT_CLASSES:
        raise LikenessError(f"{path}: class {prompt_class!r} of {name} is none of {', '.join(PROMPT_CLASSES)}")
    if not named and ANY_PLACEHOLDER.search(text):
        raise LikenessError(f"{path}: the text of {name} holds a placeholder, it must name nobody")
    if named and text.count(placeholder) not in ((1, 2) if of_two else (1,)):
        twice = ", or twice for two subjects" if of_two else ""
        raise LikenessError(f"{path}: the text of {name} must hold {placeholder} once{twice}")
    if placeholder != PLACEHOLDER and PLACEHOLDER in text:
        raise LikenessError(f"{path}: the text of {name} holds {PLACEHOLDER} beside the placeholder {placeholder}")
    return Prompt(name, prompt_class, text.replace(placeholder, PLACEHOLDER), tuple(nouns))

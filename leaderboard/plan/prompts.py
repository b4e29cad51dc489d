"""Prompt sets: YAML files that a protocol's prompts are read from."""

from pathlib import Path

from contracts.errors import LikenessError
from contracts.prompts import PLACEHOLDER
from contracts.protocol import Prompt, check_name, prompts_hash
from contracts.strict_yaml import read_yaml

PROMPT_CLASSES = ("scene", "attribute", "action", "accessory", "style", "mix")


def read_prompts(path: str) -> tuple[Prompt, ...]:
    """A prompt set from YAML.

    Its keys: ``prompts``, a list of entries with ``id``, ``class`` and ``text``; ``placeholder``, what stands for the
    subject in the texts, ``<subject>`` if the key is left out; ``sha256``, the :func:`prompts_hash` of a set that is
    meant to stay as it is.

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
    prompts = tuple(_prompt(path, i, entry, placeholder) for i, entry in enumerate(entries))
    repeated = {p.id for p in prompts if sum(p.id == other.id for other in prompts) > 1}
    if repeated:
        raise LikenessError(f"{path} names prompts twice: {', '.join(sorted(repeated))}")
    if "sha256" in data and data["sha256"] != prompts_hash(prompts):
        raise LikenessError(
            f"{path} was changed: its key sha256 does not fit its prompts; copy it under another name, without that key"
        )
    return prompts


def _prompt(path: str, index: int, entry: object, placeholder: str) -> Prompt:
    if not isinstance(entry, dict) or entry.keys() != {"id", "class", "text"}:
        raise LikenessError(f"{path}: prompt {index} must have exactly id, class and text")
    name, prompt_class, text = (str(entry[key]) for key in ("id", "class", "text"))
    check_name("prompt", name)
    if prompt_class not in PROMPT_CLASSES:
        raise LikenessError(f"{path}: class {prompt_class!r} of {name} is none of {', '.join(PROMPT_CLASSES)}")
    if text.count(placeholder) != 1:
        raise LikenessError(f"{path}: the text of {name} must hold {placeholder} once")
    if placeholder != PLACEHOLDER and PLACEHOLDER in text:
        raise LikenessError(f"{path}: the text of {name} holds {PLACEHOLDER} beside the placeholder {placeholder}")
    return Prompt(name, prompt_class, text.replace(placeholder, PLACEHOLDER))

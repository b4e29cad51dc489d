"""DreamBench's own prompts, in ``prompts_and_classes.txt``: read as text, never run.

The file holds two lists of prompts in Python's notation, one for objects and one for live subjects. It does not say
which classes are live.
"""

import re
from collections.abc import Collection
from pathlib import Path

from contracts.errors import LikenessError
from contracts.prompts import PLACEHOLDER
from contracts.protocol import Prompt
from datamodules.dreambooth import class_nouns

_HEADING = re.compile(r"(?P<kind>object|live subject)s?\W+prompts?\W*", re.IGNORECASE)
_PROMPT = re.compile(r"""(?P<quote>['"])(?P<text>.*?\{0\}\s*\{1\}.*)(?P=quote)\s*\.\s*format\b""")
_SUBJECT = re.compile(r"\{0\}\s*\{1\}")
_WORN = re.compile(r"\b(wearing|outfit)\b")


def dreambench_prompts(path: Path, live: Collection[str], nouns: Collection[str] | None) -> tuple[Prompt, ...]:
    """Both lists as one set: a prompt that stands in both is for all, another one for live subjects or for the rest.

    The file sorts prompts into no classes. Here one about what the subject wears is an accessory, one in which nothing
    follows the subject an attribute, every other a scene.

    Args:
        live: The class nouns of live subjects.
        nouns: The class nouns of all subjects; those of the file's table where they are not known.

    Raises:
        LikenessError: the file cannot be read, has no prompts, or has both lists and no class is said to be live.
    """
    table = class_nouns(path)
    objects, others = _read_lists(path)
    if unknown := sorted(set(live) - set(table.values())):
        raise LikenessError(f"protocol.live: {path} has no subject of class {unknown[0]!r}")
    if objects and others and not live:
        raise LikenessError(
            f"{path} has prompts for live subjects and for objects: name the live classes in protocol.live: [cat, dog]"
        )
    everybody = set(table.values() if nouns is None else nouns)
    for_whom = dict.fromkeys(objects, everybody - set(live)) | {
        text: everybody if text in objects else everybody & set(live) for text in others
    }
    prompts: dict[str, Prompt] = {}
    for text, whom in for_whom.items():
        if not whom:
            continue
        name = "-".join(re.findall("[a-z0-9]+", text.lower().replace(PLACEHOLDER, ""))).removeprefix("a-") or "plain"
        name = f"{name}-{len(prompts)}" if name in prompts else name
        prompts[name] = Prompt(name, _class_of(text), text, () if whom == everybody else tuple(sorted(whom)))
    return tuple(prompts.values())


def _class_of(text: str) -> str:
    if text.endswith(PLACEHOLDER):
        return "attribute"
    return "accessory" if _WORN.search(text) else "scene"


def _read_lists(path: Path) -> tuple[list[str], list[str]]:
    """The prompts of objects and of live subjects; blank lines, brackets and text around the lists do not matter."""
    prompts: dict[str, list[str]] = {"object": [], "live subject": []}
    kind = ""
    for number, line in enumerate(map(str.strip, path.read_text(encoding="utf-8-sig").splitlines()), start=1):
        if heading := _HEADING.fullmatch(line):
            kind = heading["kind"].lower()
        elif found := _PROMPT.search(line):
            text = " ".join(_SUBJECT.sub(PLACEHOLDER, found["text"]).split())
            if text.count(PLACEHOLDER) != 1 or "{" in text:
                raise LikenessError(f"{path}, line {number}: the prompt must hold {{0}} {{1}} once and no other field")
            if not kind:
                raise LikenessError(f"{path}, line {number}: the prompt stands below no heading such as Object Prompts")
            if text in prompts[kind]:
                raise LikenessError(f"{path}, line {number}: the prompt stands twice in its list")
            prompts[kind].append(text)
    if not any(prompts.values()):
        raise LikenessError(f"{path} has no prompts, which look like '... {{0}} {{1}} ...'.format(...)")
    return prompts["object"], prompts["live subject"]

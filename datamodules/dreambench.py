"""DreamBench's own list of subjects and prompts, ``prompts_and_classes.txt``: read as text, never run.

It holds a table of subjects with their classes, and two lists of prompts in Python's notation, one for objects and one
for live subjects. Which classes are live it does not say.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import LikenessError

_HEADING = re.compile(r"(?P<kind>object|live subject)s?\W+prompts?\W*", re.IGNORECASE)
_ROW = re.compile(r"(?P<subject>[\w-]+)\s*[,;\t]\s*(?P<noun>[^\W\d_][\w -]*)")
_PROMPT = re.compile(r"""(?P<quote>['"])(?P<text>.*?\{0\}\s*\{1\}.*)(?P=quote)\s*\.\s*format\b""")
_SUBJECT = re.compile(r"\{0\}\s*\{1\}")


@dataclass(frozen=True)
class DreamBench:
    """What the file says. In the texts of prompts the given placeholder stands for the subject."""

    nouns: Mapping[str, str]
    """Class noun by subject."""
    objects: Sequence[str]
    """The prompts of objects."""
    live: Sequence[str]
    """The prompts of live subjects."""


def read_dreambench(path: Path, placeholder: str) -> DreamBench:
    """Read the file; blank lines, headings around the lists and their brackets do not matter.

    Raises:
        LikenessError: it cannot be read, has no table of subjects or no prompts, or names a subject or prompt twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise LikenessError(f"{path} is no UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise LikenessError(f"{path} cannot be read: {error.strerror}") from error
    nouns: dict[str, str] = {}
    prompts: dict[str, list[str]] = {"object": [], "live subject": []}
    kind = ""
    for number, line in enumerate(map(str.strip, lines), start=1):
        if heading := _HEADING.fullmatch(line):
            kind = heading["kind"].lower()
        elif found := _PROMPT.search(line):
            text = " ".join(_SUBJECT.sub(placeholder, found["text"]).split())
            if text.count(placeholder) != 1 or "{" in text:
                raise LikenessError(
                    f"{path}, line {number}: the prompt must hold {{0}} {{1}} once and nothing else to fill in"
                )
            if not kind:
                raise LikenessError(f"{path}, line {number}: the prompt stands below no heading such as Object Prompts")
            if text in prompts[kind]:
                raise LikenessError(f"{path}, line {number}: the prompt stands twice in its list")
            prompts[kind].append(text)
        elif not kind and (row := _ROW.fullmatch(line)) and row["subject"].lower() != "subject_name":
            if row["subject"] in nouns:
                raise LikenessError(f"{path}, line {number}: subject {row['subject']} stands twice in the table")
            nouns[row["subject"]] = row["noun"].strip()
    if not nouns or not any(prompts.values()):
        lacking = "prompts ('... {0} {1} ...'.format(...))" if nouns else "table of subjects (subject_name,class)"
        raise LikenessError(f"{path} has no {lacking}: it is not DreamBench's prompts_and_classes.txt")
    return DreamBench(nouns, prompts["object"], prompts["live subject"])

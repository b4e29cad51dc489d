"""What a user says of photos and subjects, in tables: ``metadata.csv``, ``metadata.jsonl``, columns of Parquet."""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import LikenessError
from contracts.files import read_file
from datamodules.schema import ROLES, SPLITS

ALIASES = {
    "file_name": ("file_name",),
    "mask_file_name": ("mask_file_name", "mask"),
    "subject_id": ("subject_id", "subject", "subject_name", "label"),
    "subject_class": ("subject_class", "class", "noun"),
    "subject_text": ("subject_text",),
    "caption": ("caption", "text"),
    "background_text": ("background_text",),
    "split": ("split",),
    "role": ("role",),
    "has_face": ("has_face",),
    "source": ("source",),
    "licence": ("licence", "license"),
    "consent": ("consent",),
}
"""The columns that are read, each with the names that it may have; the first one that is there is taken."""

SPLIT_NAMES = {"validation": "val", "valid": "val", "dev": "val", "eval": "val"}
"""What others call a split, and what we call it."""
_YES = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class Facts:
    """What is said of a photo, or of a subject; ``None`` is what is not said."""

    subject_id: str | None = None
    subject_class: str | None = None
    subject_text: str | None = None
    caption: str | None = None
    background_text: str | None = None
    split: str | None = None
    role: str | None = None
    has_face: bool | None = None
    source: str | None = None
    licence: str | None = None
    consent: str | None = None
    file_name: str | None = None
    mask_file_name: str | None = None


def facts_of(row: Mapping[str, Any], where: str) -> Facts:
    """The facts of a row of a table.

    Args:
        where: What to call the row in an error.

    Raises:
        LikenessError: a split, a role or `has_face` has no such value.
    """
    said: dict[str, Any] = {}
    for name, aliases in ALIASES.items():
        value = next((row[alias] for alias in aliases if row.get(alias) is not None), None)
        text = one_line(value) if isinstance(value, str | int | float | bool) else ""
        said[name] = text or None
    if said["split"]:
        said["split"] = SPLIT_NAMES.get(said["split"].lower(), said["split"].lower())
        _check(said["split"], SPLITS, "split", where)
    if said["role"]:
        _check(said["role"], ROLES, "role", where)
    if said["has_face"]:
        _check(said["has_face"].lower(), _YES, "has_face", where)
        said["has_face"] = _YES[said["has_face"].lower()]
    return Facts(**said)


def read_table(path: Path, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row of a CSV or JSON Lines file, with what to call it in an error.

    A CSV may have lines above its header, which is the first line with a column for ``key``, and ends at an empty line.

    Raises:
        LikenessError: the file cannot be read, or has no column for ``key``.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise LikenessError(f"{path} cannot be read ({error}): it must be text in UTF-8") from error
    rows = _json_lines(text, path) if path.suffix == ".jsonl" else _csv_lines(text, path, key)
    for number, row in rows:
        if not any(row.get(alias) is not None for alias in ALIASES[key]):
            raise LikenessError(f"line {number} of {path} has no `{key}`")
        yield f"line {number} of {path}", row


def read_text(path: Path) -> str:
    """The text of a file; raises ``OSError``, ``UnicodeDecodeError``, or ``LikenessError`` where it is no file."""
    return read_file(path).decode("utf-8-sig")


def one_line(value: object) -> str:
    """A text on one line, without characters that cannot be seen, in the one form that equal texts share."""
    text = unicodedata.normalize("NFC", str(value))
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).split())


def subject_id(name: str) -> str:
    """The id of a subject in the dataset: a-z, 0-9, `_` and `-`, since it is part of file names and of commands.

    Where letters of the name are lost, a hash of it is added, so that two such names have two ids.
    """
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    slug = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-")
    lost = re.sub(r"[a-z0-9_\s.,'-]+", "", plain)
    if not slug or lost:
        slug = f"{slug or 's'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return slug


def _csv_lines(text: str, path: Path, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = text.splitlines(keepends=True)
    heads = [i for i, line in enumerate(lines) if set(ALIASES[key]) & {name.strip() for name in line.split(",")}]
    if not heads:
        raise LikenessError(f"{path} has no line with a column `{key}`: its first line names the columns")
    head = heads[0]
    reader = csv.reader(io.StringIO("".join(lines[head:]), newline=""))
    try:
        names = [name.strip() for name in next(reader)]
        for values in reader:
            if not values:
                return
            yield head + reader.line_num, {n: v for n, v in zip(names, values, strict=False) if v.strip()}
    except csv.Error as error:
        raise LikenessError(f"line {head + reader.line_num} of {path} is no CSV ({error})") from error


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):  # other line breaks may stand inside of a text
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise LikenessError(f"line {number} of {path} is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise LikenessError(f"line {number} of {path} is no JSON object")
        yield number, row


def _check(value: str, known: Any, name: str, where: str) -> None:
    if value not in known:
        raise LikenessError(f"{where}: `{name}` is {value!r}, it must be one of {', '.join(known)}")

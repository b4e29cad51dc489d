"""JSON files and files of JSON lines, read as strictly as the standard has them and written line by line."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from contracts.errors import LikenessError
from contracts.files import open_to_append, open_to_read, read_file
from contracts.strict_json import NoNumber, parse

MEND = "remove the line and run the stage again"
"""What to do about a damaged line."""


class LineLog:
    """Appends JSON lines, each flushed at once; a line that a killed process left unfinished is cut off first."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(open_to_append(path), "a+b")
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)

    def append(self, rows: Iterable[Mapping]) -> None:
        """Write one line per row."""
        for row in rows:
            self._file.write(json_line(row).encode())
        self._file.flush()

    def __enter__(self) -> "LineLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def json_line(row: Mapping) -> str:
    """Compact JSON with a line break; NaN is refused."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def read_json(path: Path, instead: str = "remove it and run the stage again") -> Any:
    """What a JSON file holds; raises ``LikenessError`` with the file's name, and ``instead``, where there is none."""
    try:
        return parse(read_file(path).decode())
    except (OSError, ValueError) as error:
        raise LikenessError(f"{path} is damaged ({error}): {instead}") from error


def read_lines(path: Path) -> Iterator[dict]:
    """The JSON lines of a file; an unfinished last line is left out."""
    return (row for *_, row in numbered_lines(path))


def numbered_lines(path: Path) -> Iterator[tuple[int, int, dict]]:
    """Number, size in bytes and content of every finished line."""
    with open_to_read(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                row = parse(line.decode())
            except NoNumber as error:
                raise LikenessError(f"{path}, line {number} holds {error}: {MEND}") from error
            except ValueError as error:
                raise LikenessError(f"{path}, line {number} is no JSON: {MEND}") from error
            if not isinstance(row, dict):
                raise LikenessError(f"{path}, line {number} is no JSON object: {MEND}")
            yield number, len(line), row


def lines_at(places: Iterable[tuple[Path, int]]) -> Iterator[bytes]:
    """The lines that begin at bytes of files."""
    with ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}
        for path, start in places:
            if path not in files:
                files[path] = stack.enter_context(open_to_read(path))
            files[path].seek(start)
            yield files[path].readline()

"""The files in a shard's rows: their bytes, and whether they are what the rows say."""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from tqdm import tqdm

from contracts import strict_json
from contracts.errors import LikenessError
from contracts.files import read_file, write_atomically
from datamodules.image_io import READING, image_size, read_mask
from datamodules.rows import Row, check_place
from datamodules.schema import read_columns

_CHECKS = f"1/{READING}"
"""Names what is checked here. It changes whenever a shard that was found right may not be so any more."""


class Files(NamedTuple):
    """The bytes of one row's files, the mask's ``None`` where it is not known, and whether both lie in the shard."""

    image: bytes
    mask: bytes | None
    inside: bool


class Hashes(NamedTuple):
    """SHA-256 of a row's files in hex; of the mask ``None`` where it is not known."""

    image: str
    mask: str | None


def shard_files(path: Path, shard: pq.ParquetFile, wanted: Collection[int]) -> Iterator[tuple[int, Files]]:
    """Numbers of rows that are wanted, with their files, one row group in memory at a time.

    Raises:
        LikenessError: the shard or a file cannot be read. The message names it.
    """
    first = 0
    for group in range(shard.num_row_groups):
        last = first + shard.metadata.row_group(group).num_rows
        rows = [row for row in range(first, last) if row in wanted]
        if rows:
            table = read_columns(path, shard, ["image", "mask"], group)
            for row in rows:
                image, inside = _file(table["image"][row - first].as_py(), path, row, "image")
                if image is None:
                    raise LikenessError(f"{path}: column `image` holds neither bytes nor a path in row {row}")
                cell = table["mask"][row - first].as_py() if "mask" in table.column_names else None
                mask, mask_inside = _file(cell, path, row, "mask")
                yield row, Files(image, mask, inside and mask_inside)
        first = last


def check_files(path: Path, shard: pq.ParquetFile, rows: Sequence[Row], cache_dir: Path) -> list[Hashes]:
    """The hashes of all files, which were found to be what the rows say, now or earlier for this version of the shard.

    An image must have its ``sha256`` where that is given. A mask must fit its image, and box and landmarks must lie in
    it. Files outside of the shard are hashed every time; what else is checked, is so again when one has changed.

    Raises:
        LikenessError: one does not; the message names shard and row.
    """
    stat = path.stat()
    version = f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}"
    note = cache_dir / "checked" / f"{hashlib.sha256(version.encode()).hexdigest()[:32]}.json"
    known, inside = _noted(note)
    if inside and _as_given(known, rows):
        return known
    hashes, inside = [], True
    every = tqdm(range(len(rows)), desc=f"checking {path.name}", unit="photo", mininterval=1, delay=2)
    for row, (_, files) in zip(every, shard_files(path, shard, range(len(rows))), strict=True):
        mask_hash = None if files.mask is None else hashlib.sha256(files.mask).hexdigest()
        found = Hashes(hashlib.sha256(files.image).hexdigest(), mask_hash)
        if rows[row]["sha256"] not in (None, found.image):
            raise LikenessError(f"{path}: the image in row {row} differs from its `sha256`")
        if row >= len(known) or known[row] != found:
            called = f" ({name})" if (name := rows[row]["photo_id"]) else ""
            _check_row(files, rows[row], f"{path}: row {row}{called}")
        hashes.append(found)
        inside = inside and files.inside
    write_atomically(note, json.dumps({"checks": _CHECKS, "inside": inside, "files": hashes}).encode())
    return hashes


def _noted(note: Path) -> tuple[list[Hashes], bool]:
    """The hashes that an earlier check wrote down, and whether all files lie in the shard; nothing where the note is
    missing, damaged, or of other checks."""
    try:
        noted = strict_json.parse(read_file(note).decode())
        if noted["checks"] == _CHECKS:
            return [Hashes(*pair) for pair in noted["files"]], bool(noted["inside"])
    except (OSError, LikenessError, ValueError, KeyError, TypeError):
        pass
    return [], False


def _as_given(known: Sequence[Hashes], rows: Sequence[Row]) -> bool:
    """Whether hashes that were noted are those that the rows give."""
    return len(known) == len(rows) and all(
        row["sha256"] in (None, one.image) for one, row in zip(known, rows, strict=True)
    )


def _check_row(files: Files, row: Row, where: str) -> None:
    size, orientation = image_size(files.image, f"{where}: the image")
    if files.mask is not None:
        read_mask(files.mask, f"{where}: the mask", size, orientation)
    check_place(row, size, where)


def _file(value: Any, path: Path, row: int, column: str) -> tuple[bytes | None, bool]:
    """The bytes of a cell, which holds them or names a file below the shard's folder, and whether it holds them."""
    if isinstance(value, bytes):
        return value, True
    value = value or {}
    if (data := value.get("bytes")) is not None:
        return data, True
    if not (name := value.get("path")):
        return None, True
    file = (path.parent / name).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise LikenessError(f"{path}: column `{column}` names a file outside of the dataset in row {row}")
    try:
        return read_file(file), False
    except OSError as error:
        raise LikenessError(f"{file}, named in row {row} of {path}, cannot be read ({error.strerror})") from error

"""Where the bytes of a photo lie, in a file or in a row of a Parquet shard, and what tells that they are the same."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import LikenessError
from contracts.files import open_to_read, read_file
from datamodules.bounded_parquet import read_bounded

MAX_BYTES = 256 * 1024 * 1024  # of one file; a photo of 64 million pixels has less


class Bytes(Protocol):
    """Bytes that are read when they are needed."""

    def read(self) -> bytes:
        """All of them; raises ``LikenessError`` where they cannot be read."""

    @property
    def stamp(self) -> str:
        """Names them while they do not change, without reading them."""


@dataclass(frozen=True)
class FileBytes:
    """The bytes of a file."""

    path: Path

    def read(self) -> bytes:
        """All of them; raises ``LikenessError`` where they cannot be read."""
        try:
            return read_file(self.path, MAX_BYTES)
        except OSError as error:
            raise LikenessError(f"it cannot be read ({error.strerror})") from error

    @property
    def stamp(self) -> str:
        """Path, size and times of the file."""
        return _stamp(self.path)


@dataclass(frozen=True)
class RowBytes:
    """The bytes of a column's value in a row of a Parquet shard; neighbours are read together."""

    path: Path
    group: int
    row: int
    """Within the row group."""
    column: str

    def read(self) -> bytes:
        """All of them; raises ``LikenessError`` where they cannot be read."""
        value = _column(self.path, self.group, self.column)[self.row].as_py()
        data, file = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data is not None:
            return data
        if not file:
            raise LikenessError(f"its column `{self.column}` is empty")
        inside = (self.path.parent / file).resolve()
        if not inside.is_relative_to(self.path.parent.resolve()):
            raise LikenessError(f"its column `{self.column}` names a file outside of the folder")
        return FileBytes(inside).read()

    @property
    def stamp(self) -> str:
        """That of the shard, and the row."""
        return f"{_stamp(self.path)}/{self.group}/{self.row}/{self.column}"


def writable(name: str) -> str:
    """A file's name as text that can be written down: what of it is no UTF-8 stands as numbers."""
    return name.encode("utf-8", "backslashreplace").decode()


def open_shard(path: Path) -> pq.ParquetFile:
    """Open a Parquet file, which is a file and no pipe."""
    open_to_read(path).close()
    return pq.ParquetFile(path)


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{writable(str(path))}/missing"
    return f"{writable(str(path.resolve()))}/{stat.st_size}/{stat.st_mtime_ns}/{stat.st_ctime_ns}"


@lru_cache(maxsize=4)
def _column(path: Path, group: int, column: str) -> pa.ChunkedArray:
    try:
        return read_bounded(path, open_shard(path), [column], group)[column]
    except (OSError, pa.ArrowException) as error:
        raise LikenessError(f"{path} cannot be read: copy it again") from error

"""What is already known of each photo, so that a stopped curation goes on and a second one does only what is new.

Records lie in files that are only ever added, each written whole or not at all. A record is found by a hash of
everything that it was made from, so a stale one is impossible. Records that no photo asks for any more are removed at
the end: nothing is kept of somebody whose photos are gone.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.files import atomic_path, open_to_read, remove

Record = Mapping[str, NDArray]
T = TypeVar("T")

_SUFFIX = ".records"  # Parquet inside, but no shard of a dataset
_SECONDS = 15.0  # of work that a kill may cost
_BYTES = 64 * 1024 * 1024


class Work:
    """The records of one kind, arrays by name.

    Args:
        folder: Where they lie; several kinds share it.
        kind: Their short name.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self._where: dict[str, tuple[Path, int]] = {}
        for path in sorted(folder.glob(f"{kind}-*{_SUFFIX}")):
            self._take(path)

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __getitem__(self, key: str) -> Record:
        path, row = self._where[key]
        try:
            return load(_values(path)[row].as_py())
        except (OSError, pa.ArrowException, SafetensorError) as error:
            raise LikenessError(f"{path} is damaged: delete it and run again") from error

    def add(self, records: Sequence[tuple[str, Record]]) -> None:
        """Keep records by key."""
        if not records:
            return
        keys = [key for key, _ in records]
        values = [save({name: np.ascontiguousarray(array) for name, array in found.items()}) for _, found in records]
        table = pa.table({"key": pa.array(keys, pa.string()), "value": pa.array(values, pa.large_binary())})
        path = self.folder / f"{self.kind}-{hashlib.sha256(''.join(keys).encode()).hexdigest()[:16]}{_SUFFIX}"
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)
        self._where.update({key: (path, row) for row, key in enumerate(keys)})

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove every other record, from the disk too."""
        wanted, files = set(keys), dict[Path, list[str]]()
        for key, (path, _) in self._where.items():
            files.setdefault(path, []).append(key)
        for path, held in files.items():
            left = [key for key in held if key in wanted]
            if len(left) < len(held):
                records = [(key, self[key]) for key in left]
                remove(path)
                for key in held:
                    del self._where[key]
                self.add(records)
        _values.cache_clear()

    def _take(self, path: Path) -> None:
        """Find the records of a file; one without keys that can be read is removed, and what it held is done again."""
        try:
            open_to_read(path).close()
            keys = pq.read_table(path, columns=["key"], page_checksum_verification=True)["key"].to_pylist()
        except (OSError, LikenessError, pa.ArrowException, KeyError):
            remove(path)
            return
        self._where.update({key: (path, row) for row, key in enumerate(keys)})


def complete(
    work: Work,
    items: Mapping[str, T],
    make: Callable[[Sequence[T]], Sequence[Record]],
    title: str,
    batch: int = 32,
) -> None:
    """Make the records of those items that have none yet, batch after batch, with a progress bar over all.

    Args:
        items: What the records are made from, by key.
        make: The records of a batch, in its order.
        title: What the progress bar says.
    """
    missing = [(key, item) for key, item in items.items() if key not in work]
    made, since = list[tuple[str, Record]](), time.monotonic()
    with tqdm(total=len(items), initial=len(items) - len(missing), desc=title, unit="photo", mininterval=1) as bar:
        try:
            for first in range(0, len(missing), batch):
                some = missing[first : first + batch]
                made += zip([key for key, _ in some], make([item for _, item in some]), strict=True)
                size = sum(array.nbytes for _, record in made for array in record.values())
                if size > _BYTES or time.monotonic() - since > _SECONDS:
                    work.add(made)
                    made, since = [], time.monotonic()
                bar.update(len(some))
        finally:
            work.add(made)


@lru_cache(maxsize=4)
def _values(path: Path) -> pa.ChunkedArray:
    return pq.read_table(path, columns=["value"], page_checksum_verification=True)["value"]


def text_array(text: str | bytes) -> NDArray[np.uint8]:
    """A text, or bytes, as an array that a record can hold."""
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)


def array_text(array: NDArray) -> str:
    """The text of such an array."""
    return array.tobytes().decode()

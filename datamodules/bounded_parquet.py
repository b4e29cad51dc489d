"""Parquet read with bounded memory: a small file can hold what takes all of it, one value a million times."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import LikenessError

FLOOR = 2**29
"""Bytes that the rows of a group may always take once they are read."""
RATIO = 64
"""How many times its size in the file they may take beyond that. Images do not get smaller, repeated words do."""


def read_bounded(path: Path, shard: pq.ParquetFile, columns: Sequence[str], group: int | None = None) -> pa.Table:
    """All rows of some columns, or those of one row group.

    Raises:
        LikenessError: they would take far more memory than a data set of images can; nothing of that size is read.
    """
    groups = list(range(shard.num_row_groups)) if group is None else [group]
    stored, unpacked = 0, 0
    for one in groups:
        about = shard.metadata.row_group(one)
        chunks = [about.column(i) for i in range(about.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]
        stored += sum(chunk.total_compressed_size for chunk in chunks)
        unpacked = max(unpacked, sum(chunk.total_uncompressed_size for chunk in chunks))
    limit = max(FLOOR, RATIO * stored)
    _check(path, unpacked, limit)
    batches, size = [], 0
    # No value is larger than all of them unpacked, and so no batch than the limit.
    rows = min(1024, max(1, limit // max(1, unpacked)))
    for batch in shard.iter_batches(rows, groups, list(columns)):
        size += batch.nbytes
        _check(path, size, limit)
        batches.append(batch)
    fields = [shard.schema_arrow.field(name) for name in columns]
    return pa.Table.from_batches(batches, batches[0].schema if batches else pa.schema(fields))


def _check(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise LikenessError(
            f"{path} holds rows that take more than {limit / 1e9:.1f} GB of memory for a file of "
            f"{path.stat().st_size / 1e6:.1f} MB: it is no data set of images; write it again, in smaller row groups"
        )

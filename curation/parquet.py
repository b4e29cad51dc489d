"""Photos in Parquet shards, as the hub stores image datasets: a column ``image``, and the columns of the metadata."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import LikenessError
from curation.files import RowBytes, open_shard
from curation.metadata import ALIASES, Facts, facts_of
from datamodules.bounded_parquet import read_bounded

_PICTURES = ("image", "mask")


def parquet_photos(shards: Sequence[Path], folder: Path) -> Iterator[tuple[str, Facts, RowBytes, RowBytes | None]]:
    """Name, facts, image and mask of each row of the shards.

    Raises:
        LikenessError: a shard is no whole Parquet file, has no column ``image``, or a value in it is wrong.
    """
    for path in shards:
        try:
            shard = open_shard(path)
            columns = shard.schema_arrow.names
            if "image" not in columns:
                raise LikenessError(f"{path} has no column `image`: its columns are {', '.join(columns)}")
            told = [alias for aliases in ALIASES.values() for alias in aliases if alias in columns]
            told = [name for name in told if name not in _PICTURES]
            names = _label_names(shard.schema_arrow)
            for group in range(shard.num_row_groups):
                table = read_bounded(path, shard, told, group)
                with_mask = _which_masks(path, shard, group) if "mask" in columns else None
                for row, values in enumerate(table.to_pylist() or [{}] * shard.metadata.row_group(group).num_rows):
                    name = f"{path.relative_to(folder).as_posix()}:{group}:{row}"
                    facts = facts_of({key: _named(names, key, value) for key, value in values.items()}, f"row {name}")
                    mask = RowBytes(path, group, row, "mask") if with_mask and with_mask[row] else None
                    yield name, facts, RowBytes(path, group, row, "image"), mask
        except (OSError, pa.ArrowException) as error:
            raise LikenessError(f"{path} is not a whole Parquet file: copy it again") from error


def _which_masks(path: Path, shard: pq.ParquetFile, group: int) -> list[bool]:
    return read_bounded(path, shard, ["mask"], group)["mask"].is_valid().to_pylist()


def _label_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of class labels, by column."""
    from datasets import ClassLabel, Features

    try:
        features = Features.from_arrow_schema(schema)
    except (ValueError, TypeError, KeyError):  # written by a newer version, or by no `datasets` at all
        return {}
    return {name: kind.names for name, kind in features.items() if isinstance(kind, ClassLabel)}


def _named(names: dict[str, list[str]], column: str, value: Any) -> Any:
    """A value, the name of a label for its number; -1 is written where a photo has no label."""
    if column not in names or not isinstance(value, int):
        return value
    return names[column][value] if 0 <= value < len(names[column]) else None

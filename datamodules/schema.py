"""The dataset schema: one row per image, in Parquet shards.

``pocket10k`` and curated photos are written in it, and every data source is checked against it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from contracts.errors import LikenessError
from contracts.files import open_to_read
from datamodules.bounded_parquet import read_bounded

if TYPE_CHECKING:
    from datasets import Features

SPLITS = ("train", "val", "test")

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS = pa.schema(
    [
        ("image", _PICTURE),  # a file (path relative to the shard's folder) or its bytes
        ("mask", _PICTURE),  # the subject: 0 outside, 255 inside, the size of the image
        ("subject_id", pa.string()),
        ("subject_class", pa.string()),  # the class noun that stands for the subject in a prompt
        ("pose_id", pa.int32()),  # 0 is the most frontal pose of the dataset
        ("pose", pa.list_(pa.float32(), 3)),  # yaw, pitch, roll in degrees
        ("background_id", pa.int32()),
        ("background_text", pa.string()),  # a phrase that a prompt can end in, such as `on a beach`
        ("caption", pa.string()),
        ("landmarks", pa.list_(pa.list_(pa.float32(), 2), 5)),  # x, y in pixels: eyes, nose, corners of the mouth
        ("bbox", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1 of the face in pixels
        ("split", pa.string()),  # train, val or test; one subject is in one split
        ("source", pa.string()),
        ("licence", pa.string()),
        ("sha256", pa.string()),  # of the image's bytes, in hex
    ]
)


def features() -> "Features":
    """The schema as Hugging Face ``datasets`` writes it."""
    from datasets import Features, Image, List, Value

    return Features(
        {
            "image": Image(),
            "mask": Image(),
            "subject_id": Value("string"),
            "subject_class": Value("string"),
            "pose_id": Value("int32"),
            "pose": List(Value("float32"), length=3),
            "background_id": Value("int32"),
            "background_text": Value("string"),
            "caption": Value("string"),
            "landmarks": List(List(Value("float32"), length=2), length=5),
            "bbox": List(Value("float32"), length=4),
            "split": Value("string"),
            "source": Value("string"),
            "licence": Value("string"),
            "sha256": Value("string"),
        }
    )


def open_shard(path: Path) -> pq.ParquetFile:
    """Open one Parquet shard whose columns are those of the schema (further columns are allowed).

    Raises:
        LikenessError: the shard is cut short or no Parquet file, or a column is missing or of the wrong type. The
            message names the shard and the column.
    """
    try:
        open_to_read(path).close()
        shard = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise LikenessError(f"{path} is not a whole Parquet file ({_line(error)}): copy or write it again") from error
    found = shard.schema_arrow
    for field in COLUMNS:
        at = found.get_field_index(field.name)
        if at < 0:
            raise LikenessError(f"{path} has no column `{field.name}`, which the dataset schema asks for")
        if not _fits(found.field(at).type, field.type):
            raise LikenessError(f"{path}: column `{field.name}` is {found.field(at).type}, it must be {field.type}")
    return shard


def read_columns(path: Path, shard: pq.ParquetFile, columns: list[str]) -> pa.Table:
    """All rows of some columns.

    Raises:
        LikenessError: the data is damaged, or a value is missing. The message names the shard and the column.
    """
    try:
        table = read_bounded(path, shard, columns)
    except (OSError, pa.ArrowException) as error:
        raise LikenessError(f"{path} cannot be read ({_line(error)}): copy or write it again") from error
    for name in columns:
        if table[name].null_count:
            raise LikenessError(f"{path}: column `{name}` lacks a value in {table[name].null_count} rows")
    return table


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column can be read as the wanted type; widths and the kind of list do not matter."""
    if types.is_struct(wanted):
        inner = {field.name: field.type for field in found} if types.is_struct(found) else {}
        data, path = inner.get("bytes", pa.null()), inner.get("path", pa.null())
        return (types.is_binary(data) or types.is_large_binary(data)) and _fits(path, pa.string())
    if types.is_fixed_size_list(wanted):
        lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
        length = found.list_size == wanted.list_size if types.is_fixed_size_list(found) else True
        return any(is_list(found) for is_list in lists) and length and _fits(found.value_type, wanted.value_type)
    if types.is_string(wanted):
        return types.is_string(found) or types.is_large_string(found)
    if types.is_integer(wanted):
        return types.is_integer(found)
    return types.is_floating(found)


def _line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

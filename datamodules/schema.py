"""The dataset schema: one row per photo, in Parquet shards.

``pocket10k`` and curated photos are written in it, and every data source is checked against it. ``docs/data.md`` says
what each column means.
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
ROLES = ("reference", "held_out")

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS = pa.schema(
    [
        pa.field("image", _PICTURE, nullable=False),  # a file (path relative to the shard's folder) or its bytes
        pa.field("mask", _PICTURE),  # the subject: 0 outside, 255 inside, the size of the image as it is seen
        pa.field("photo_id", pa.string()),  # a name of the photo, unique in the dataset
        pa.field("subject_id", pa.string(), nullable=False),
        pa.field("subject_class", pa.string(), nullable=False),  # the class noun, for the subject in a prompt
        pa.field("subject_text", pa.string()),  # a phrase for behind the class noun, such as `with green eyes`
        pa.field("has_face", pa.bool_()),  # whether photos of this subject show a face
        pa.field("pose_id", pa.int32()),  # a class of poses that subjects share
        pa.field("pose", pa.list_(pa.float32(), 3)),  # yaw, pitch, roll in degrees
        pa.field("background_id", pa.int32()),  # a class of backgrounds that subjects share
        pa.field("background_text", pa.string()),  # a phrase that a prompt can end in, such as `on a beach`
        pa.field("clothes_id", pa.int32()),  # a class of clothes, told by their colours, that subjects share
        pa.field("clothes_text", pa.string()),  # a phrase that a prompt can hold, such as `in a red shirt`
        pa.field("caption", pa.string(), nullable=False),
        pa.field("landmarks", pa.list_(pa.list_(pa.float32(), 2), 5)),  # x, y in pixels: eyes, nose, mouth's corners
        pa.field("bbox", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1 of the face in pixels
        pa.field("split", pa.string(), nullable=False),  # train, val or test; one subject is in one split
        pa.field("role", pa.string()),  # reference or held_out
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),  # of the image's bytes, in hex
    ]
)
"""Columns that may be null may also be left out, and null is for what is not known."""

NAMES = ("subject_id", "photo_id")
"""Columns of names, which may be written as whole numbers."""


def features() -> "Features":
    """The schema as Hugging Face ``datasets`` writes it."""
    from datasets import Features, Image, List, Value

    known = {
        _PICTURE: Image(),
        COLUMNS.field("pose").type: List(Value("float32"), length=3),
        COLUMNS.field("bbox").type: List(Value("float32"), length=4),
        COLUMNS.field("landmarks").type: List(List(Value("float32"), length=2), length=5),
    }
    return Features({field.name: known.get(field.type) or Value(str(field.type)) for field in COLUMNS})


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
        times = found.names.count(field.name)
        if times == 0 and field.nullable:
            continue
        if times != 1:
            many = "no" if times == 0 else f"{times} times the"
            raise LikenessError(f"{path} has {many} column `{field.name}`, which the dataset schema asks for")
        if not _fits(found.field(field.name).type, field):
            raise LikenessError(
                f"{path}: column `{field.name}` is {found.field(field.name).type}, it must be {field.type}"
            )
    return shard


def read_columns(path: Path, shard: pq.ParquetFile, columns: list[str], group: int | None = None) -> pa.Table:
    """All rows, or those of one row group, of those columns of the schema that the shard has.

    Raises:
        LikenessError: the data is damaged. The message names the shard.
    """
    columns = [name for name in columns if name in shard.schema_arrow.names]
    try:
        return read_bounded(path, shard, columns, group)
    except (OSError, pa.ArrowException) as error:
        raise LikenessError(f"{path} cannot be read ({_line(error)}): copy or write it again") from error


def _fits(found: pa.DataType, field: pa.Field) -> bool:
    """Whether a column may hold what a field asks for. Its values are looked at one by one when they are read."""
    if field.name in ("image", "mask"):
        return _is_picture(found) or (field.nullable and types.is_null(found))
    if field.name in NAMES and types.is_integer(found):
        return True
    return _reads_as(found, field.type) or (field.nullable and types.is_null(found))


def _is_picture(found: pa.DataType) -> bool:
    """Bytes, or a struct of bytes and a path of which one is there."""
    if not types.is_struct(found):
        return _is_bytes(found)
    inner = {part.name: part.type for part in found}
    data, path = inner.get("bytes", pa.null()), inner.get("path", pa.null())
    fit = (_is_bytes(data) or types.is_null(data)) and (_reads_as(path, pa.string()) or types.is_null(path))
    return fit and not (types.is_null(data) and types.is_null(path))


def _is_bytes(found: pa.DataType) -> bool:
    kinds = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(is_kind(found) for is_kind in kinds)


def _reads_as(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of a type can be read as the wanted one. Widths, dictionaries and kinds of lists do not matter."""
    if types.is_dictionary(found):
        found = found.value_type
    if types.is_fixed_size_list(wanted):
        kinds = (types.is_list, types.is_large_list, types.is_list_view, types.is_large_list_view)
        if types.is_fixed_size_list(found):
            return found.list_size == wanted.list_size and _reads_as(found.value_type, wanted.value_type)
        return any(is_kind(found) for is_kind in kinds) and (
            _reads_as(found.value_type, wanted.value_type) or types.is_null(found.value_type)
        )
    if types.is_string(wanted):
        return types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)
    # A table program writes whole numbers with gaps as floats, and whole coordinates as integers.
    numbers = types.is_integer(found) or types.is_floating(found)
    return numbers or (types.is_boolean(wanted) and types.is_boolean(found))


def _line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

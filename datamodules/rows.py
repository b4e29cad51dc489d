"""Rows of a dataset as checked values: what a cell may hold, and one error line that names shard, column and row."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from contracts.errors import LikenessError
from datamodules.schema import COLUMNS, NAMES, ROLES, SPLITS, read_columns

Row = dict[str, Any]
_UNREAD = ("image", "mask")
_ONLY_CHECKED = ("source", "licence")
_LARGEST = 2**31 - 1
_TURN = 180.0


class _Wrong(Exception):
    """What a cell must be; the message is the end of the sentence."""


def shard_rows(path: Path, shard: pq.ParquetFile) -> Iterator[Row]:
    """Every row without its files, source and licence; null where a value is not known or the column is left out.

    Numbers are rounded to float32, as the schema has them. A list of NaN alone, a NaN for a whole number, and empty
    words where words are optional are null.

    Raises:
        LikenessError: a value is missing, or is not what its column is for.
    """
    fields = [field for field in COLUMNS if field.name not in _UNREAD]
    table = read_columns(path, shard, [field.name for field in fields])
    for i, found in enumerate(table.to_pylist()):
        row: Row = {}
        for field in fields:
            value = found.get(field.name)
            try:
                row[field.name] = None if value is None else _READ[field.name](value)
            except _Wrong as wrong:
                shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:80]}..."
                raise LikenessError(
                    f"{path}: column `{field.name}` is {shown} in row {i}, it must be {wrong}"
                ) from None
            if row[field.name] is None and not field.nullable:
                raise LikenessError(f"{path}: column `{field.name}` lacks a value in row {i}")
        for name in _ONLY_CHECKED:
            del row[name]
        yield row


def check_place(row: Row, size: tuple[int, int], where: str) -> None:
    """Raise ``LikenessError`` where box or landmarks of a row cannot be those of a face in a photo of this width and
    height; ``where`` says which row it is."""
    if row["bbox"] is not None:
        x0, y0, x1, y1 = row["bbox"]
        if x1 - x0 < 1 or y1 - y0 < 1:
            raise LikenessError(f"{where}: column `bbox` is {row['bbox']}, it must be x0, y0, x1, y1 in pixels")
        if not _inside([((x0 + x1) / 2, (y0 + y1) / 2)], size):
            raise LikenessError(f"{where}: column `bbox` is {row['bbox']}, outside of the {size[0]} x {size[1]} pixels")
    if row["landmarks"] is not None and not _inside(row["landmarks"], size):
        raise LikenessError(f"{where}: column `landmarks` lies outside of the {size[0]} x {size[1]} pixels")


def _inside(points: list[tuple[float, float]], size: tuple[int, int]) -> bool:
    """Whether the middle of points lies in the photo: a face may reach beyond the edge."""
    middle = np.mean(points, axis=0)
    return bool((middle >= 0).all() and (middle <= size).all())


def _words(value: str) -> str | None:
    return value or None


def _text(value: str) -> str:
    return value


def _name(value: str | int) -> str | None:
    if isinstance(value, str) and not value.isprintable():
        raise _Wrong("a name of one line")
    return str(value) or None


def _hash(value: str) -> str | None:
    return value.strip().lower() or None


def _one_of(*allowed: str) -> Callable[[str], str | None]:
    def read(value: str) -> str | None:
        if value and value not in allowed:
            raise _Wrong(f"one of {allowed}")
        return value or None

    return read


def _class_id(value: float) -> int | None:
    if math.isnan(value):
        return None
    if not (0 <= value <= _LARGEST and value == int(value)):
        raise _Wrong("a whole number from 0 on, or null where the class is not known")
    return int(value)


def _truth(value: bool | float) -> bool | None:
    if math.isnan(value):
        return None
    if value not in (0, 1):
        raise _Wrong("true, false or null")
    return bool(value)


def _numbers(*shape: int, limit: float = math.inf) -> Callable[[list], tuple | None]:
    words = " x ".join(map(str, shape)) + " numbers" + (f" from -{limit:g} to {limit:g}" if limit < math.inf else "")

    def read(value: list) -> tuple | None:
        try:
            array = np.array(value, np.float64)
        except (TypeError, ValueError):
            raise _Wrong(words) from None
        if array.shape != shape:
            raise _Wrong(words)
        if np.isnan(array).all():
            return None
        if not (np.isfinite(array).all() and (np.abs(array) <= limit).all()):
            raise _Wrong(f"{words}, or null where it is not known")
        return _tuples(array.astype(np.float32).tolist())

    return read


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(NAMES, _name),
    "subject_class": _name,
    "subject_text": _words,
    "has_face": _truth,
    "pose_id": _class_id,
    "pose": _numbers(3, limit=_TURN),
    "background_id": _class_id,
    "background_text": _words,
    "clothes_id": _class_id,
    "clothes_text": _words,
    "caption": _text,
    "landmarks": _numbers(5, 2),
    "bbox": _numbers(4),
    "split": _one_of(*SPLITS),
    "role": _one_of(*ROLES),
    "source": _text,
    "licence": _text,
    "sha256": _hash,
}

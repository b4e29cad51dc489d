"""The finished dataset: shards that appear together when all are whole, and only if they differ from those there."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from contracts.files import atomic_path, file_sha256, make_folder, remove
from curation.portraits import Portrait
from datamodules.schema import SPLITS, features

_BYTES = 400 * 1024 * 1024  # of a shard, about
_GROUP = 50  # rows that are in memory together
WAYS = {
    "consent": "string",  # who agreed to this use, and how
    "original": "string",  # the photo's path below the folder, or its row
    "mask_from": "string",  # alpha, file, segmenter, grabcut or region
    "pose_from": "string",  # landmarks
    "background_from": "string",  # clusters
    "caption_from": "string",  # file, captioner, clip or template
    "agreement": "float32",  # median cosine of the face to those of the subject's other photos
}
"""Columns beyond the schema, and their types: the way each value came."""

Row = Mapping[str, Any]


def write_shards(folder: Path, rows: Sequence[Row], portrait: Callable[[int], Portrait]) -> bool:
    """Write the rows as the dataset in ``folder``, and say whether anything changed.

    Args:
        folder: Replaced as a whole once the new shards are complete.
        rows: Those of the dataset in their order, without image, mask and hash.
        portrait: The portrait of a row by its place.
    """
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for left_over in (new, old):
        _delete(left_over)
    make_folder(new)
    with tqdm(total=len(rows), desc="writing", unit="photo", mininterval=1) as bar:
        for split in SPLITS:
            own = [i for i, row in enumerate(rows) if row["split"] == split]
            number = at = 0
            while at < len(own):
                at = _write_shard(new / f"{split}-{number:05d}.parquet", own, at, rows, portrait, bar)
                number += 1
    if not folder.is_symlink() and _hashes(new) == _hashes(folder):
        _delete(new)
        return False
    if folder.exists() or folder.is_symlink():
        folder.rename(old)
    new.rename(folder)
    _delete(old)
    return True


def _delete(folder: Path) -> None:
    """Delete a folder with all that is in it, or a link itself, if it is there."""
    if folder.is_symlink():
        remove(folder)
    elif folder.is_dir():
        shutil.rmtree(folder)


def _write_shard(
    path: Path, own: Sequence[int], at: int, rows: Sequence[Row], portrait: Callable[[int], Portrait], bar: tqdm
) -> int:
    """Write one shard from place ``at`` of the rows ``own`` on; returns the place after its last row."""
    schema, size = _schema(), 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while at < len(own) and size < _BYTES:
            some = own[at : at + _GROUP]
            table = pa.Table.from_pylist([_whole(rows[i], portrait(i)) for i in some], schema)
            writer.write_table(table)
            size += table.nbytes
            at += len(some)
            bar.update(len(some))
    return at


def _whole(row: Row, portrait: Portrait) -> dict[str, Any]:
    """A row with its pictures and its names."""
    digest = hashlib.sha256(portrait.image).hexdigest()
    return {
        **row,
        "photo_id": f"{row['subject_id']}:{digest[:16]}",
        "image": {"bytes": portrait.image, "path": None},
        "mask": None if portrait.mask is None else {"bytes": portrait.mask, "path": None},
        "sha256": digest,
    }


def _schema() -> pa.Schema:
    """That of the dataset, with what tells ``datasets`` which columns are images."""
    from datasets import Features, Value

    return Features({**features(), **{name: Value(kind) for name, kind in WAYS.items()}}).arrow_schema


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted(folder.glob("*.parquet"))}

"""The photos of a dataset: what is known of each one, and how to read its bytes when they are needed."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import LikenessError
from contracts.files import read_file, write_atomically
from datamodules.bounded_parquet import read_bounded
from datamodules.schema import SPLITS, open_shard, read_columns

_PLAIN = (
    "subject_id",
    "subject_class",
    "pose_id",
    "pose",
    "background_id",
    "background_text",
    "caption",
    "landmarks",
    "bbox",
    "split",
    "sha256",
)

_NUMBERS: dict[str, tuple[int, ...]] = {"pose": (3,), "landmarks": (5, 2), "bbox": (4,)}


@dataclass(frozen=True)
class Photo:
    """One row of the dataset, without its pixels. ``row`` counts within ``shard``; hashes are of the stored bytes."""

    subject_id: str
    subject_class: str
    pose_id: int
    pose: tuple[float, float, float]
    background_id: int
    background_text: str
    caption: str
    landmarks: tuple[tuple[float, float], ...]
    bbox: tuple[float, float, float, float]
    split: str
    sha256: str
    mask_sha256: str
    shard: Path
    row: int

    @property
    def id(self) -> str:
        """A name that does not depend on where or beside what the photo is stored."""
        return f"{self.subject_id}:{self.sha256[:16]}"

    @property
    def face_sha256(self) -> str:
        """Names everything that features of the face are made of: image, mask, landmarks and box."""
        known = f"{self.sha256}/{self.mask_sha256}/{self.landmarks}/{self.bbox}"
        return hashlib.sha256(known.encode()).hexdigest()


@dataclass(frozen=True)
class PhotoFiles:
    """A photo with the bytes of its image and mask files."""

    photo: Photo
    image: bytes
    mask: bytes


def load_photos(shards: Sequence[Path], cache_dir: Path) -> list[Photo]:
    """All photos of the shards, in an order that does not depend on how they are spread over shards.

    Every image is checked against its ``sha256`` once per version of a shard file; that it was is remembered in
    ``cache_dir``.

    Raises:
        LikenessError: a shard is damaged or does not follow the schema, an image differs from its hash, an image
            occurs twice, or a subject is in two splits. The message names the shard.
    """
    photos = [photo for shard in shards for photo in _shard_photos(shard, cache_dir)]
    photos.sort(key=lambda p: (p.subject_id, p.pose_id, p.background_id, p.sha256))
    splits: dict[str, Photo] = {}
    seen: dict[str, Photo] = {}
    for photo in photos:
        for name in ("subject_id", "subject_class"):
            if not getattr(photo, name).strip():  # prompts would name nobody
                raise LikenessError(f"{photo.shard}: column `{name}` is empty in row {photo.row}: give every photo one")
        first = splits.setdefault(photo.subject_id, photo)
        if first.split != photo.split:
            raise LikenessError(
                f"subject {photo.subject_id!r} is in two splits: {first.split} ({first.shard}) and {photo.split} "
                f"({photo.shard})"
            )
        twin = seen.setdefault(photo.id, photo)
        if twin is not photo:
            raise LikenessError(
                f"the same image occurs twice for subject {photo.subject_id!r}: row {twin.row} of {twin.shard} and "
                f"row {photo.row} of {photo.shard}"
            )
    return photos


def read_photos(photos: Iterable[Photo]) -> Iterator[PhotoFiles]:
    """The photos' bytes, shard after shard (not in the order given), one row group in memory at a time.

    Raises:
        LikenessError: a shard or a file cannot be read. The message names it.
    """
    wanted: dict[Path, dict[int, Photo]] = {}
    for photo in photos:
        wanted.setdefault(photo.shard, {})[photo.row] = photo
    for path, rows in wanted.items():
        shard, first = open_shard(path), 0
        for group in range(shard.num_row_groups):
            last = first + shard.metadata.row_group(group).num_rows
            inside = [row for row in rows if first <= row < last]
            if inside:
                table = _read_group(path, shard, group)
                for row in inside:
                    image, mask = (
                        _file_bytes(table[name][row - first].as_py(), path, row, name) for name in ("image", "mask")
                    )
                    yield PhotoFiles(rows[row], image, mask)
            first = last


def reference_of(photos: Iterable[Photo]) -> Photo:
    """The one photo of a subject that a method may see: the most frontal pose before its first background.

    That is the first one by ``pose_id`` (0 is the most frontal), then ``background_id``, then hash.
    """
    return min(photos, key=lambda p: (p.pose_id, p.background_id, p.sha256))


def held_out_of(photos: Sequence[Photo]) -> list[Photo]:
    """The photos of a subject that identity is judged against: other pose and other background than its reference.

    Raises:
        LikenessError: the subject has no such photo.
    """
    reference = reference_of(photos)
    others = cross_views(reference, photos)
    if not others:
        raise LikenessError(
            f"subject {reference.subject_id!r} has no photo whose pose and background both differ from its reference"
        )
    return others


def cross_views(photo: Photo, photos: Iterable[Photo]) -> list[Photo]:
    """The photos of the same subject that differ from ``photo`` in pose and in background."""
    return [
        p
        for p in photos
        if p.subject_id == photo.subject_id and p.pose_id != photo.pose_id and p.background_id != photo.background_id
    ]


def by_subject(photos: Iterable[Photo]) -> dict[str, list[Photo]]:
    """Photos grouped by subject."""
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        groups.setdefault(photo.subject_id, []).append(photo)
    return groups


def _shard_photos(path: Path, cache_dir: Path) -> list[Photo]:
    shard = open_shard(path)
    table = read_columns(path, shard, list(_PLAIN))
    rows: list[dict[str, Any]] = table.to_pylist()
    for i, row in enumerate(rows):
        if row["split"] not in SPLITS:
            raise LikenessError(f"{path}: column `split` is {row['split']!r} in row {i}, it must be one of {SPLITS}")
        for name, shape in _NUMBERS.items():
            if not _is_numbers(row[name], shape):
                words = " x ".join(map(str, shape))
                raise LikenessError(f"{path}: column `{name}` is {row[name]} in row {i}, it must be {words} numbers")
    masks = _checked_masks(path, shard, [row["sha256"] for row in rows], cache_dir)
    return [
        Photo(**row | {name: _tuples(row[name]) for name in _NUMBERS}, mask_sha256=mask, shard=path, row=i)
        for i, (row, mask) in enumerate(zip(rows, masks, strict=True))
    ]


def _is_numbers(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether nested lists hold numbers in this shape."""
    if not shape:
        return value is not None
    return isinstance(value, list) and len(value) == shape[0] and all(_is_numbers(v, shape[1:]) for v in value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _checked_masks(path: Path, shard: pq.ParquetFile, hashes: list[str], cache_dir: Path) -> list[str]:
    """The masks' hashes, after the images' hashes were found right, now or earlier for this version of the file."""
    stat = path.stat()
    version = f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}"
    note = cache_dir / "checked" / f"{hashlib.sha256(version.encode()).hexdigest()[:32]}.json"
    try:
        noted = json.loads(note.read_text())
        if noted["images"] == hashlib.sha256("".join(hashes).encode()).hexdigest():
            return noted["masks"]
    except (OSError, ValueError, KeyError):
        pass
    masks, row, inside = [], 0, True
    for group in range(shard.num_row_groups):
        table = _read_group(path, shard, group)
        for image, mask in zip(table["image"].to_pylist(), table["mask"].to_pylist(), strict=True):
            inside = inside and all(value and value["bytes"] is not None for value in (image, mask))
            if hashlib.sha256(_file_bytes(image, path, row, "image")).hexdigest() != hashes[row]:
                raise LikenessError(f"{path}: the image in row {row} differs from its `sha256`")
            masks.append(hashlib.sha256(_file_bytes(mask, path, row, "mask")).hexdigest())
            row += 1
    if inside:  # files outside of the shard can change without it, so those are checked every time
        images = hashlib.sha256("".join(hashes).encode()).hexdigest()
        write_atomically(note, json.dumps({"images": images, "masks": masks}).encode())
    return masks


def _read_group(path: Path, shard: pq.ParquetFile, group: int) -> pa.Table:
    try:
        return read_bounded(path, shard, ["image", "mask"], group)
    except (OSError, pa.ArrowException) as error:
        raise LikenessError(f"{path} cannot be read ({error}): copy or write it again") from error


def _file_bytes(value: dict[str, Any] | None, path: Path, row: int, column: str) -> bytes:
    """The bytes of an image value, which holds them or names a file below the shard's folder."""
    if value and value["bytes"] is not None:
        return value["bytes"]
    if not value or not value["path"]:
        raise LikenessError(f"{path}: column `{column}` holds neither bytes nor a path in row {row}")
    file = (path.parent / value["path"]).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise LikenessError(f"{path}: column `{column}` names a file outside of the dataset in row {row}")
    try:
        return read_file(file)
    except OSError as error:
        raise LikenessError(f"{file}, named in row {row} of {path}, cannot be read ({error.strerror})") from error

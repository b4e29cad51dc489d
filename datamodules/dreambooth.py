"""The DreamBooth data set's folder as a data source: a folder of photos for each subject and a table of class nouns."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.files import atomic_path, read_file
from datamodules.schema import COLUMNS

TABLE = "prompts_and_classes.txt"
PHOTOS = (".jpg", ".jpeg", ".png", ".webp")

_HEAD = "subject_name,class"
_TERMS = "DreamBooth data set, see its own terms"
_FORM = "1"
"""Names how rows are made here; it changes whenever a row would."""


def dreambooth_shard(folder: Path, cache_dir: Path) -> Path:
    """The Parquet shard of such a folder, which is written into the cache once for its content.

    All subjects are in the test split. None has a face: they are objects and animals. Nothing more is known of a photo
    than its class, so the first one by name is the reference and all others are held out.

    Raises:
        LikenessError: the table cannot be read, there is no subject of it, or a subject lacks a class or photos.
    """
    nouns = class_nouns(folder / TABLE)
    photos = _photos(folder, nouns)
    digest = hashlib.sha256(_FORM.encode())
    hashes: dict[Path, str] = {}
    for subject, files in photos.items():
        for file in files:
            hashes[file] = hashlib.sha256(_read(file)).hexdigest()
            digest.update(f"{subject}\0{nouns[subject]}\0{file.name}\0{hashes[file]}\n".encode())
    shard = cache_dir / f"dreambooth-{digest.hexdigest()[:20]}" / "test.parquet"
    if not shard.is_file():
        # Closed before the file takes its name; a row group for each subject bounds the memory.
        with atomic_path(shard) as path, pq.ParquetWriter(path, COLUMNS) as writer:
            for subject, files in tqdm(photos.items(), desc=f"reading {folder}", unit="subject", mininterval=1):
                rows = [_row(file, hashes[file], subject, nouns[subject]) for file in files]
                writer.write_table(pa.Table.from_pylist(rows, COLUMNS))
    return shard


def class_nouns(path: Path) -> dict[str, str]:
    """The class noun of each subject, from the table in ``prompts_and_classes.txt``.

    Raises:
        LikenessError: the file cannot be read, or holds no such table.
    """
    try:
        lines = [line.strip() for line in read_file(path).decode("utf-8-sig").splitlines()]
    except OSError as error:
        raise LikenessError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LikenessError(f"{path} is no UTF-8 text: {error.reason}") from error
    heads = [number for number, line in enumerate(lines) if "".join(line.lower().split()) == _HEAD]
    if not heads:
        raise LikenessError(f"{path} has no table of classes, which begins with the line `{_HEAD}`")
    nouns: dict[str, str] = {}
    for line in lines[heads[0] + 1 :]:
        if not line:
            break
        subject, comma, noun = (part.strip() for part in line.partition(","))
        if not (subject and comma and noun) or subject in nouns:
            raise LikenessError(
                f"{path}: the line {line!r} of the table of classes is not `subject,class`, once for each"
            )
        nouns[subject] = noun
    return nouns


def _photos(folder: Path, nouns: Mapping[str, str]) -> dict[str, list[Path]]:
    """The photo files of each subject, in sorted order."""
    try:
        subjects = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        photos = {
            path.name: sorted(file for file in path.iterdir() if file.suffix.lower() in PHOTOS and file.name[0] != ".")
            for path in subjects
        }
    except OSError as error:
        raise LikenessError(f"{error.filename} cannot be read ({error.strerror})") from error
    if not photos:
        raise LikenessError(f"{folder} holds {TABLE} and no folder of photos for a subject")
    for subject, files in photos.items():
        if subject not in nouns:
            raise LikenessError(
                f"{folder / TABLE} has no class for the folder {subject!r}: add the line `{subject},CLASS`"
            )
        if not files:
            raise LikenessError(f"{folder / subject} holds no photo ({', '.join(PHOTOS)})")
    return photos


def _row(file: Path, sha256: str, subject: str, noun: str) -> dict[str, object]:
    data = _read(file)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise LikenessError(f"{file} was changed while it was read: run again")
    unknown = dict.fromkeys(COLUMNS.names)
    return unknown | {
        "image": {"bytes": data, "path": None},
        "photo_id": f"{subject}/{file.name}",
        "subject_id": subject,
        "subject_class": noun,
        "has_face": False,
        "caption": f"a photo of a {noun}",
        "split": "test",
        "source": _TERMS,
        "licence": _TERMS,
        "sha256": sha256,
    }


def _read(file: Path) -> bytes:
    try:
        return read_file(file)
    except OSError as error:
        raise LikenessError(f"{file} cannot be read ({error.strerror})") from error

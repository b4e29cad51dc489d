"""Which training stages and evaluations a dataset can feed, said before an hour is spent on encoding it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from contracts.errors import LikenessError
from datamodules.batches.experts import FactorGroups
from datamodules.index import Photo

_BATCHES = (512, 256, 128, 64, 32, 16, 8, 4)  # photos of an expert's batch


@dataclass(frozen=True)
class Feed:
    """One use of the dataset, whether it can be, and in words why."""

    use: str
    possible: bool
    why: str


def feeds_of(rows: Sequence[Mapping[str, Any]]) -> list[Feed]:
    """The uses of a dataset with these rows."""
    train = [row for row in rows if row["split"] == "train"]
    return [_pairs(train), _experts(train), _faces(train), _judged(rows, "val"), _judged(rows, "test")]


def _pairs(train: Sequence[Mapping[str, Any]]) -> Feed:
    subjects = Counter(row["subject_id"] for row in train)
    paired = sum(1 for row in train if subjects[row["subject_id"]] > 1)
    if not paired:
        return Feed("cross-view pairs", False, "no training subject has two photos" if train else "nobody trains")
    return Feed("cross-view pairs", True, f"{paired} photos of {len(subjects)} training subjects")


def _experts(train: Sequence[Mapping[str, Any]]) -> Feed:
    """Tried with the stream that training itself reads."""
    use, error = "pose and background experts", "nobody trains"
    if train and not any(row["background_id"] is not None for row in train):
        return Feed(use, False, "the background classes are unknown: give --clip; or train with data.first_stage null")
    photos = [_photo(i, row) for i, row in enumerate(train)]
    known = sum(1 for photo in photos if photo.pose_id is not None and photo.background_id is not None)
    for size in (size for size in _BATCHES if train and size <= max(known, _BATCHES[-1])):
        try:
            groups = FactorGroups(photos, size, seed=0)
        except LikenessError as found:
            error = str(found)
            continue
        words = (
            f"{len(groups.poses)} pose classes and {len(groups.backgrounds)} background classes that two training "
            f"subjects share, in {len(groups.usable)} photos; data.first_stage.init_args.batch_size up to {size}"
        )
        return Feed(use, True, words)
    return Feed(use, False, f"{error}; or add subjects in like poses and before like backgrounds")


def _photo(number: int, row: Mapping[str, Any]) -> Photo:
    """A row as the training stages read it, without its files."""
    columns: dict[str, Any] = {field.name: row.get(field.name) for field in fields(Photo)}
    unread: dict[str, Any] = {
        "photo_id": str(number),
        "sha256": "",
        "mask_sha256": None,
        "shard": Path(),
        "row": number,
    }
    return Photo(**{**columns, **unread})


def _faces(train: Sequence[Mapping[str, Any]]) -> Feed:
    use, faces = "methods that read faces", [row for row in train if row["landmarks"] is not None]
    masked = sum(1 for row in faces if row["mask_from"])
    if not faces:
        return Feed(use, False, "no training photo has a face")
    return Feed(use, True, f"{len(faces)} training photos with landmarks, {masked} of them with a mask")


def _judged(rows: Sequence[Mapping[str, Any]], split: str) -> Feed:
    use = {"val": "validation", "test": "evaluation and methods that train per subject"}[split]
    own = [row for row in rows if row["split"] == split]
    subjects = {row["subject_id"] for row in own}
    if not subjects:
        hint = "the names put nobody there; change --shares or --seed, or say it in a column `split`"
        return Feed(use, False, hint)
    held_out = sum(row["role"] != "reference" for row in own)
    return Feed(use, True, f"{len(subjects)} subjects, {len(own) - held_out} references, {held_out} held-out photos")

"""Which training stages and evaluations a dataset can feed, said before an hour is spent on encoding it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BATCH = 128  # photos of an expert's batch unless the configuration says otherwise


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


def shared(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows left when those are taken out, again and again, whose pose class or background class is unknown or found
    with one subject only."""
    left = [row for row in rows if row["pose_id"] is not None and row["background_id"] is not None]
    while True:
        subjects: dict[tuple[str, int], set[str]] = {}
        for row in left:
            for column in ("pose_id", "background_id"):
                subjects.setdefault((column, row[column]), set()).add(row["subject_id"])
        kept = [r for r in left if all(len(subjects[c, r[c]]) > 1 for c in ("pose_id", "background_id"))]
        if len(kept) == len(left):
            return left
        left = kept


def _pairs(train: Sequence[Mapping[str, Any]]) -> Feed:
    subjects = Counter(row["subject_id"] for row in train)
    paired = sum(1 for row in train if subjects[row["subject_id"]] > 1)
    if not paired:
        return Feed("cross-view pairs", False, "no training subject has two photos" if train else "nobody trains")
    return Feed("cross-view pairs", True, f"{paired} photos of {len(subjects)} training subjects")


def _experts(train: Sequence[Mapping[str, Any]]) -> Feed:
    use, usable = "pose and background experts", shared(train)
    counts = {name: len({row[name] for row in usable}) for name in ("pose_id", "background_id")}
    words = f"{counts['pose_id']} pose classes and {counts['background_id']} background classes"
    if min(counts.values()) >= 2:
        small = "" if len(usable) >= _BATCH else f"; set data.first_stage.init_args.batch_size to {len(usable) // 2}"
        return Feed(use, True, f"{words} that two training subjects share, in {len(usable)} photos{small}")
    if train and not any(row["background_id"] is not None for row in train):
        return Feed(use, False, "the background classes are unknown: give --clip; or train with data.first_stage null")
    return Feed(
        use,
        False,
        f"{words} are shared by two training subjects, two of each are needed: add subjects in like poses and before "
        "like backgrounds, give fewer --backgrounds, or train with data.first_stage null",
    )


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

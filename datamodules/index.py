"""The photos of a dataset: what is known of each one, and how to read its bytes when they are needed."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contracts.errors import LikenessError
from datamodules.rows import Row, shard_rows
from datamodules.schema import open_shard
from datamodules.stored import check_files, shard_files

Point = tuple[float, float]


@dataclass(frozen=True)
class Photo:
    """One row of the dataset, without its pixels; ``None`` is what is not known.

    Classes of pose, background and clothes are shared between subjects. ``row`` counts within ``shard``; hashes are of
    the stored bytes. ``docs/data.md`` says what the columns mean.
    """

    photo_id: str
    subject_id: str
    subject_class: str
    subject_text: str | None
    """What the subject looks like, in words that follow the class noun; the same for all photos of a subject."""
    has_face: bool
    """Whether photos of this subject show a face, as the dataset says."""
    pose_id: int | None
    pose: tuple[float, float, float] | None
    background_id: int | None
    background_text: str | None
    clothes_id: int | None
    clothes_text: str | None
    caption: str
    landmarks: tuple[Point, Point, Point, Point, Point] | None
    bbox: tuple[float, float, float, float] | None
    split: str
    role: str | None
    """``reference`` or ``held_out``, where the dataset says it."""
    sha256: str
    mask_sha256: str | None
    shard: Path
    row: int

    @property
    def id(self) -> str:
        """What samples call the photo: a name that does not depend on where or beside what it is stored."""
        return self.photo_id

    @property
    def content(self) -> str:
        """What the photo is called where the dataset does not name it: whose it is, and its hash."""
        return content_id(self.subject_id, self.sha256)

    @property
    def called(self) -> str:
        """What errors call the photo."""
        return f"image {self.photo_id} (row {self.row} of {self.shard})"

    @property
    def face_sha256(self) -> str:
        """Names everything that features of the face are made of: image, mask, landmarks and box."""
        known = f"{self.sha256}/{self.mask_sha256}/{self.landmarks}/{self.bbox}"
        return hashlib.sha256(known.encode()).hexdigest()

    @property
    def person_sha256(self) -> str:
        """Names everything that the person's mask is made of: mask and image, which may be turned."""
        return hashlib.sha256(f"{self.sha256}/{self.mask_sha256}".encode()).hexdigest()


@dataclass(frozen=True)
class PhotoFiles:
    """A photo with the bytes of its image and mask files; the mask is ``None`` where it is not known."""

    photo: Photo
    image: bytes
    mask: bytes | None


def load_photos(shards: Sequence[Path], cache_dir: Path) -> list[Photo]:
    """All photos of the shards, in an order that does not depend on how they are spread over shards.

    Every image, mask and box is checked once per version of a shard file, see :func:`datamodules.stored.check_files`;
    that it was is remembered in ``cache_dir``.

    Raises:
        LikenessError: a shard is damaged or does not follow the schema, a file or a value of a row is not what its
            column is for, an image or a name occurs twice, or a subject is in two splits. The message names the shard.
    """
    photos = _photos([row for shard in shards for row in _shard_rows(shard, cache_dir)])
    photos.sort(
        key=lambda p: (
            p.subject_id,
            math.inf if p.pose_id is None else p.pose_id,
            math.inf if p.background_id is None else p.background_id,
            p.sha256,
        )
    )
    splits: dict[str, Photo] = {}
    images: dict[tuple[str, str], Photo] = {}
    names: dict[str, Photo] = {}
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
        twin = images.setdefault((photo.subject_id, photo.sha256), photo)
        if twin is not photo:
            raise LikenessError(f"the same image occurs twice for subject {photo.subject_id!r}: {_rows(twin, photo)}")
        twin = names.setdefault(photo.photo_id, photo)
        if twin is not photo:
            raise LikenessError(f"two photos have the `photo_id` {photo.photo_id!r}: {_rows(twin, photo)}")
    return _described(photos)


def read_photos(photos: Iterable[Photo]) -> Iterator[PhotoFiles]:
    """The photos' bytes, shard after shard (not in the order given), one row group in memory at a time.

    Raises:
        LikenessError: a shard or a file cannot be read. The message names it.
    """
    wanted: dict[Path, dict[int, Photo]] = {}
    for photo in photos:
        wanted.setdefault(photo.shard, {})[photo.row] = photo
    for path, rows in wanted.items():
        for row, files in shard_files(path, open_shard(path), rows):
            yield PhotoFiles(rows[row], files.image, files.mask)


def reference_of(photos: Iterable[Photo]) -> Photo:
    """The one photo of a subject that a method may see.

    Of those that the dataset calls references, or of those that it does not hold out, it is the most frontal one by
    known pose; where no pose is known, the first by pose class, background class and name.

    Raises:
        LikenessError: the dataset holds out all of them.
    """
    photos = list(photos)
    allowed = [p for p in photos if p.role == "reference"] or [p for p in photos if p.role is None]
    if not allowed:
        raise LikenessError(
            f"subject {photos[0].subject_id!r} has no photo to be the reference: all have the `role` held_out "
            f"({_rows(*photos[:2])})"
        )
    return min(allowed, key=_frontal)


def references_of(photos: Sequence[Photo], count: int | None = None, key: str = "references") -> list[Photo]:
    """The photos of a subject that a method may see, :func:`reference_of` first.

    Without ``count`` all that the dataset calls references, and that first one alone where it calls none so. With it so
    many: those that it calls references, then those without a role, unless all of these are held out because it names
    references alone. Each shares the fewest classes of pose and background with those before it, and is the most
    frontal one of such; so the first of four are the two of two.

    Args:
        key: The setting that asks for ``count``, for errors.

    Raises:
        LikenessError: there are fewer.
    """
    first = reference_of(photos)
    others = [photo for photo in photos if photo is not first]
    named = [photo for photo in others if photo.role == "reference"]
    if count is None:
        return [first, *named]
    names_alone = {photo.role for photo in photos} == {"reference", None}
    chosen, left = [first], [] if names_alone else [photo for photo in others if photo.role is None]
    while len(chosen) < count and (pool := named or left):
        chosen.append(min(pool, key=lambda photo: (_shared(photo, chosen), *_frontal(photo))))
        pool.remove(chosen[-1])
    if len(chosen) < count:
        raise LikenessError(
            f"subject {first.subject_id!r} has {len(chosen)} photo{'s' * (len(chosen) > 1)} that a method may see, "
            f"{key} asks for {count}: add photos, ask for fewer, or leave the subject out"
        )
    return chosen


def held_out_of(photos: Sequence[Photo], references: int | None = None) -> list[Photo]:
    """The photos of a subject that identity is judged against, and that no method sees: those that the dataset holds
    out; where it holds out none, all but the ``references`` (:func:`references_of`).

    Raises:
        LikenessError: the subject has no such photo.
    """
    seen = references_of(photos, references)
    held_out = [p for p in photos if p.role == "held_out"] or [
        p for p in photos if p not in seen and p.role != "reference"
    ]
    if not held_out:
        raise LikenessError(
            f"subject {seen[0].subject_id!r} has no photo besides its reference ({_rows(seen[0])}) to be judged "
            "against: add one, or leave the subject out"
        )
    return held_out


def cross_views(photo: Photo, photos: Iterable[Photo]) -> list[Photo]:
    """The photos of the same subject that show it most differently from ``photo``.

    Those of another pose class and another background class, where there are any; else those of which no class is known
    to be the same; else all others.
    """
    others = [p for p in photos if p.subject_id == photo.subject_id and p.photo_id != photo.photo_id]
    apart = [[_differ(p.pose_id, photo.pose_id), _differ(p.background_id, photo.background_id)] for p in others]
    for fits in (lambda known: all(known), lambda known: False not in known):
        if views := [p for p, known in zip(others, apart, strict=True) if fits(known)]:
            return views
    return others


def by_subject(photos: Iterable[Photo]) -> dict[str, list[Photo]]:
    """Photos grouped by subject."""
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        groups.setdefault(photo.subject_id, []).append(photo)
    return groups


def _shard_rows(path: Path, cache_dir: Path) -> Iterator[Row]:
    """The rows of a shard, with hashes and where they lie."""
    shard = open_shard(path)
    rows = list(shard_rows(path, shard))
    for i, (row, files) in enumerate(zip(rows, check_files(path, shard, rows, cache_dir), strict=True)):
        yield row | {"sha256": files.image, "mask_sha256": files.mask, "shard": path, "row": i}


def _photos(rows: Sequence[Row]) -> list[Photo]:
    """Rows as photos: those without a name are called by subject and hash, and every one knows whether it has a face.

    A row that does not say it is like the others of its subject, then like those of its class. Where they do not say it
    either, a class has faces if boxes or landmarks are known of its photos.
    """
    said: dict[tuple[str, str], dict[bool, Row]] = {}
    for row in rows:
        if row["has_face"] is not None:
            for key in _groups(row):
                said.setdefault(key, {}).setdefault(row["has_face"], row)
    for (kind, name), found in said.items():
        if kind == "subject" and len(found) > 1:
            places = " and ".join(f"row {row['row']} of {row['shard']}" for row in found.values())
            raise LikenessError(f"subject {name!r} is said to have a face and to have none: {places}")
    shown = {row["subject_class"] for row in rows if row["bbox"] is not None or row["landmarks"] is not None}
    photos = []
    for row in rows:
        answers = [next(iter(said[key])) for key in _groups(row) if len(said.get(key, ())) == 1]
        photo_id = row["photo_id"] or content_id(row["subject_id"], row["sha256"])
        photos.append(Photo(**row | {"photo_id": photo_id, "has_face": [*answers, row["subject_class"] in shown][0]}))
    return photos


def _described(photos: Sequence[Photo]) -> list[Photo]:
    """The photos, each with what any of its subject's photos says of the subject's looks."""
    said: dict[str, Photo] = {}
    for photo in photos:
        if photo.subject_text and said.setdefault(photo.subject_id, photo).subject_text != photo.subject_text:
            places = _rows(said[photo.subject_id], photo)
            raise LikenessError(f"subject {photo.subject_id!r} has two different `subject_text`: {places}")
    return [replace(p, subject_text=said[p.subject_id].subject_text) if p.subject_id in said else p for p in photos]


def content_id(subject_id: str, sha256: str) -> str:
    """A name for a photo that tells it by its content."""
    return f"{subject_id}:{sha256[:16]}"


def _groups(row: Row) -> list[tuple[str, str]]:
    return [("subject", row["subject_id"]), ("class", row["subject_class"])]


def _differ(one: int | None, other: int | None) -> bool | None:
    """Whether two classes differ; ``None`` where one is not known."""
    return None if one is None or other is None else one != other


def _shared(photo: Photo, others: Sequence[Photo]) -> int:
    """How many known classes of pose and background a photo has in common with ``others``."""
    pairs = [pair for p in others for pair in ((photo.pose_id, p.pose_id), (photo.background_id, p.background_id))]
    return sum(_differ(one, other) is False for one, other in pairs)


def _frontal(photo: Photo) -> tuple:
    """Sorts the most frontal photo first."""
    away = math.inf if photo.pose is None else math.hypot(*photo.pose[:2])
    classes = (photo.pose_id, photo.background_id)
    return away, *(math.inf if one is None else one for one in classes), photo.photo_id


def _rows(*photos: Photo) -> str:
    return " and ".join(f"row {photo.row} of {photo.shard}" for photo in photos)

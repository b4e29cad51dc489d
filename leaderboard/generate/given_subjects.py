"""The subjects of ``generate.py``: whoever the user's own photos show, and subjects of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import LikenessError
from contracts.files import atomic_path, cache_folder
from contracts.protocol import check_name
from datamodules.features.cache import content_key
from datamodules.image_io import open_image
from datamodules.index import Photo, by_subject, load_photos, references_of
from datamodules.requests import reference_name
from datamodules.schema import COLUMNS
from datamodules.sources import find_shards
from datamodules.subjects import reference_cut_outs
from leaderboard.images.folder import some
from leaderboard.results.image_files import encode_image

NOUN = "person"
"""The class noun of a photo that is given without one."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PHOTOS = 50
"""Of one subject: whoever gives more means a data set."""


@dataclass(frozen=True)
class GivenPhoto:
    """A photo by itself: what errors call it, and the bytes of its file."""

    name: str
    data: bytes


@dataclass(frozen=True)
class OwnSubject:
    """Somebody, or something, in photos of the user's own.

    The id is made of the photos' contents: the same photos are the same subject, wherever they lie.
    """

    id: str
    noun: str
    photos: tuple[GivenPhoto, ...]
    notes: tuple[str, ...] = ()
    """What the user should know of the photos, one line each."""

    def photo_keys(self, count: int | None = None) -> list[str]:
        """The hash of each photo, whatever ``count`` of them are read."""
        return [content_key(photo.data) for photo in self.photos]

    def references(self, side: int, count: int | None = None) -> Sequence[GivenPhoto]:
        """The files that a method may read of it, the first one best, of which it is to read ``count``."""
        return self.photos

    def data_source(self, photos: Sequence[GivenPhoto], folder: Path) -> str:
        """A data set that holds these photos of it, written into ``folder``."""
        rows = [self._row(photo) for photo in photos]
        with atomic_path(folder / "photos.parquet") as file:
            pq.write_table(pa.Table.from_pylist(rows, COLUMNS), file)
        return str(folder)

    def _row(self, photo: GivenPhoto) -> dict:
        return {
            "image": {"bytes": photo.data, "path": None},
            "subject_id": self.id,
            "subject_class": self.noun,
            "caption": f"a photo of a {self.noun}",
            "split": "test",
            "role": "reference",
            "source": "",
            "licence": "",
            "sha256": content_key(photo.data),
        }


@dataclass(frozen=True)
class DatasetSubject:
    """A subject of a data set, given by its photos there."""

    dataset: str
    photos: tuple[Photo, ...]
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.photos[0].subject_id

    @property
    def noun(self) -> str:
        return self.photos[0].subject_class

    def _references(self, count: int | None) -> list[Photo]:
        return references_of(self.photos, count or 1, "--references")

    def photo_keys(self, count: int | None = None) -> list[str]:
        """The hash and the caption of each reference photo."""
        return [text for photo in self._references(count) for text in (photo.sha256, photo.caption)]

    def references(self, side: int, count: int | None = None) -> Sequence[GivenPhoto]:
        """The reference photos, ``count`` or one, as an evaluation has them: squares of ``side`` pixels with masks as
        alpha.

        Raises:
            LikenessError: there are fewer.
        """
        about = {"photo": "reference", "subject": self.id}
        cut_outs = reference_cut_outs(self._references(count), side)
        return [GivenPhoto(reference_name(self.id), encode_image(cut_out, about)) for cut_out in cut_outs]

    def data_source(self, photos: Sequence[GivenPhoto], folder: Path) -> str:
        """The data set itself."""
        return self.dataset


GivenSubject = OwnSubject | DatasetSubject


def subject_in_photos(argument: str) -> OwnSubject:
    """The subject of ``[NOUN=]FILE`` or ``[NOUN=]FOLDER``: a folder holds several photos of one subject.

    Raises:
        LikenessError: there is no such file, or no photo in it can be read.
    """
    noun, _, place = ("", "", argument) if Path(argument).exists() else argument.rpartition("=")
    noun = noun.strip() or NOUN
    if not noun.isprintable() or set("<>") & set(noun):
        raise LikenessError(f"--photo {argument}: {noun!r} is no class noun, such as {NOUN} or dog: give NOUN=FILE")
    files = _files(Path(place).expanduser())
    photos: dict[str, GivenPhoto] = {}
    wrong, oblong = list[str](), list[str]()
    for file in files:
        name = f"--photo {file}"
        try:
            data = file.read_bytes()
            width, height = open_image(data, name).size
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror})")
        except LikenessError as error:
            wrong.append(str(error))
        else:
            photos.setdefault(content_key(data), GivenPhoto(name, data))
            oblong += [f"{name} ({width} x {height})"] if width != height else []
    if not photos:
        raise LikenessError(wrong[0] if len(files) == 1 else f"no photo of {len(files)} can be read: {wrong[0]}")
    subject = f"photo-{content_key(''.join(sorted(photos)))[:12]}"
    notes = [f"left out: {reason}" for reason in wrong]
    if oblong:
        notes.append(
            f"of {some(oblong)} a method sees the central square, unless it finds the face itself: crop around the face"
        )
    return OwnSubject(subject, noun, tuple(photos.values()), tuple(notes))


def _files(path: Path) -> list[Path]:
    """The photo at ``path``, or those in the folder there, in sorted order."""
    if not path.is_dir():
        return [path]
    try:
        inside = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise LikenessError(f"--photo {path} cannot be read ({error.strerror})") from None
    files = [file for file in inside if file.suffix.lower() in SUFFIXES]
    if not files:
        folders = any(file.is_dir() for file in inside)
        hint = "give the folder of each subject by itself" if folders else f"none ends in {', '.join(SUFFIXES)}"
        raise LikenessError(f"--photo {path} holds no photo: {hint}")
    if len(files) > MAX_PHOTOS:
        raise LikenessError(
            f"--photo {path} holds {len(files)} photos: a folder is one subject, with {MAX_PHOTOS} photos at most"
        )
    return files


def first_of(photos: Sequence[GivenPhoto], count: int | None, subject: str) -> Sequence[GivenPhoto]:
    """The first ``count`` of a subject's photos that can be used, or all of them.

    Raises:
        LikenessError: there are fewer.
    """
    if count is not None and len(photos) < count:
        have = "1 photo" if len(photos) == 1 else f"{len(photos)} photos"
        raise LikenessError(
            f"{subject} has {have} that can be used, --references asks for {count}: give more photos, or ask for fewer"
        )
    return photos[:count]


def subjects_of_dataset(dataset: str, names: Sequence[str]) -> list[DatasetSubject]:
    """Subjects of any split, in the order of the names.

    Raises:
        LikenessError: there is no such data set, or it lacks one of them.
    """
    if not names:
        return []
    groups = by_subject(load_photos(find_shards(dataset), cache_folder()))
    if missing := [name for name in names if name not in groups]:
        some = ", ".join(sorted(groups)[:3]) + (", ..." if len(groups) > 3 else "")
        raise LikenessError(f"--subject: {dataset} has no subject {', '.join(missing)}; it has {some}")
    for name in names:
        check_name("subject", name)
    return [DatasetSubject(dataset, tuple(groups[name])) for name in dict.fromkeys(names)]

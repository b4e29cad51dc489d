"""The photos of a folder or of a hub dataset: whose they are, what is said of them, and how to read their bytes.

A folder holds a folder per subject, or a ``metadata.csv`` / ``metadata.jsonl`` that names files as Hugging Face's image
folders do, or Parquet shards with a column ``image``. Nothing is opened here but tables.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from contracts.errors import LikenessError
from curation.files import Bytes, FileBytes, writable
from curation.metadata import SPLIT_NAMES, Facts, facts_of, one_line, read_table, read_text, subject_id
from curation.parquet import parquet_photos
from curation.settings import CurationSettings
from datamodules.image_io import FORMATS
from datamodules.schema import SPLITS
from datamodules.sources import hub_folder

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".heic", ".heif"}
_TABLES = ("metadata.csv", "metadata.jsonl")
_ASIDE = {".txt", ".csv", ".jsonl", ".json", ".md", ".caption"}
"""Files that belong beside photos and are none."""
_MASKS = ("_mask", ".mask", "-mask")


@dataclass(frozen=True)
class Source:
    """One photo before it is opened."""

    name: str
    """Its path below the folder, or its row: what the report and the column `original` call it."""
    facts: Facts
    """In a listing its subject is an id."""
    image: Bytes
    mask: Bytes | None = None

    @property
    def subject(self) -> str:
        """Whose photo it is; every photo of a listing has one."""
        assert self.facts.subject_id is not None
        return self.facts.subject_id


@dataclass
class Listing:
    """The photos of a source in the order of their names, and what was left out with the reason."""

    photos: list[Source] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def list_photos(source: str, settings: CurationSettings) -> Listing:
    """Find the photos of a folder, or of a dataset of the hub (``owner/name`` or ``owner/name@revision``).

    Raises:
        LikenessError: there is no such folder or dataset, no photo of a subject is in it, a table in it is wrong, or
            two subjects' names differ in case or marks only.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = hub_folder(source, settings.download, ["*.parquet", *_TABLES, *(f"*{suffix}" for suffix in SUFFIXES)])
    listing = Listing()
    files = _files(folder, listing)
    if any(path.suffix == ".parquet" for path in files):
        found = parquet_photos([path for path in files if path.suffix == ".parquet"], folder)
        photos = [Source(name, facts, image, mask) for name, facts, image, mask in found]
        beside = (_name(path, folder) for path in files if path.suffix.lower() in SUFFIXES)
        listing.left_out += [(name, "it lies beside Parquet shards, and those are read") for name in beside]
    else:
        photos = _photo_files(folder, files, listing)
    told = _subjects_table(settings)
    for photo in sorted(photos, key=lambda photo: photo.name):
        facts = _with_defaults(photo.facts, told.get(photo.facts.subject_id or ""), settings)
        if facts.subject_id is None:
            listing.left_out.append((photo.name, "no subject: it lies in no subject's folder, and no metadata name it"))
        else:
            listing.photos.append(replace(photo, facts=facts))
    _check(listing, source)
    listing.photos = [replace(p, facts=replace(p.facts, subject_id=subject_id(p.subject))) for p in listing.photos]
    return listing


def _files(folder: Path, listing: Listing) -> list[Path]:
    """All files below a folder, sorted; hidden ones are nobody's photos.

    Links are followed once all else is known, so that each folder is read once, whatever leads to it.
    """
    files, folders, links, known = list[Path](), [folder], list[Path](), set[Path]()
    while folders or links:
        here = folders.pop() if folders else links.pop()
        try:
            if (real := here.resolve()) in known:
                listing.left_out.append((_name(here, folder), "a link to a folder that is read already"))
                continue
            known.add(real)
            for path in sorted(here.iterdir()):
                if path.name.startswith("."):
                    continue
                if path.is_dir():
                    (links if path.is_symlink() else folders).append(path)
                else:
                    files.append(path)
        except OSError as error:
            listing.left_out.append((_name(here, folder), f"the folder cannot be read ({error.strerror})"))
    return sorted(files)


def _name(path: Path, folder: Path) -> str:
    """What a file below the folder is called."""
    return writable(path.relative_to(folder).as_posix())


def _photo_files(folder: Path, files: list[Path], listing: Listing) -> list[Source]:
    """The image files of a folder, with what tables and neighbouring files say of them."""
    known, said = set(files), _metadata(folder, files, listing)
    photos = []
    named_masks = {facts.mask_file_name for facts in said.values()}
    for path in files:
        name = _name(path, folder)
        if path.suffix.lower() not in SUFFIXES:
            if path.suffix.lower() not in _ASIDE:
                listing.left_out.append((name, f"no photo of {', '.join(FORMATS)} or HEIC"))
            continue
        if name in named_masks or _is_mask(path, known):
            continue
        facts = said.get(name, Facts())
        if facts.subject_id is None:
            facts = replace(facts, subject_id=_subject_of(name.split("/")[:-1]))
        if facts.caption is None and (text := path.with_suffix(".txt")) in known:
            facts = replace(facts, caption=_caption(text, listing, folder))
        mask = folder / facts.mask_file_name if facts.mask_file_name else _mask_beside(path, known)
        photos.append(Source(name, facts, FileBytes(path), None if mask is None else FileBytes(mask)))
    return photos


def _subject_of(folders: Sequence[str]) -> str | None:
    """Whose photo lies in these folders: the first one names the subject, or the second one below a split's name."""
    if len(folders) > 1 and folders[0].lower() in (*SPLITS, *SPLIT_NAMES):
        folders = folders[1:]
    return one_line(folders[0]) if folders else None


def _metadata(folder: Path, files: list[Path], listing: Listing) -> dict[str, Facts]:
    """What the tables say, by the photo's path below the folder."""
    said: dict[str, Facts] = {}
    known = {path.relative_to(folder).as_posix() for path in files}
    for table in (path for path in files if path.name in _TABLES):
        for where, row in read_table(table, "file_name"):
            facts = facts_of(row, where)
            name = _below(folder, table.parent, facts.file_name or "")
            if name is None or name not in known:
                reason = "the metadata name a file outside of the folder" if name is None else "there is no such file"
                listing.left_out.append((one_line(facts.file_name), f"{reason} ({where})"))
                continue
            mask = _below(folder, table.parent, facts.mask_file_name) if facts.mask_file_name else None
            said[name] = replace(facts, file_name=name, mask_file_name=mask if mask in known else None)
    return said


def _below(folder: Path, start: Path, name: str) -> str | None:
    """A file's path below the folder, from where a table lies; ``None`` if that is outside of it."""
    steps: list[str] = list(start.relative_to(folder).parts)
    for step in Path(name).parts:
        if step == "..":
            if not steps:
                return None
            steps.pop()
        else:
            steps.append(step)
    return None if Path(name).is_absolute() else "/".join(steps)


def _is_mask(path: Path, known: set[Path]) -> bool:
    """Whether a file is called like the mask of another one."""
    for ending in _MASKS:
        if path.stem.endswith(ending) and path.stem != ending:
            photo = path.stem.removesuffix(ending)
            if any(path.with_name(photo + suffix) in known for suffix in _spellings()):
                return True
    return False


def _mask_beside(path: Path, known: set[Path]) -> Path | None:
    names = [f"{path.stem}{ending}{suffix}" for ending in _MASKS for suffix in (".png", ".PNG", ".webp")]
    return next((path.with_name(name) for name in names if path.with_name(name) in known), None)


def _spellings() -> Iterable[str]:
    return (spelt for suffix in SUFFIXES for spelt in (suffix, suffix.upper()))


def _caption(path: Path, listing: Listing, folder: Path) -> str | None:
    try:
        return one_line(read_text(path)) or None
    except (OSError, UnicodeDecodeError, LikenessError) as error:
        listing.left_out.append((_name(path, folder), f"the caption cannot be read ({error})"))
        return None


def _subjects_table(settings: CurationSettings) -> dict[str, Facts]:
    """What ``--subjects`` says, by subject."""
    if settings.subjects is None:
        return {}
    rows = [facts_of(row, where) for where, row in read_table(Path(settings.subjects).expanduser(), "subject_id")]
    return {facts.subject_id: facts for facts in rows if facts.subject_id is not None}


def _with_defaults(facts: Facts, of_subject: Facts | None, settings: CurationSettings) -> Facts:
    """The facts of a photo, then those of its subject, then those of the command line."""
    given = Facts(
        subject_class=settings.noun,
        has_face=not settings.objects,
        source=settings.source,
        licence=settings.licence,
        consent=settings.consent,
    )
    for other in (of_subject, given):
        if other is not None:
            missing = {f.name: getattr(other, f.name) for f in fields(Facts) if getattr(facts, f.name) is None}
            facts = replace(facts, **missing)
    return facts


def _check(listing: Listing, source: str) -> None:
    if not listing.photos:
        why = f"; {listing.left_out[0][0]}: {listing.left_out[0][1]}" if listing.left_out else ""
        raise LikenessError(
            f"{source} holds no photo of a subject: give a folder per subject with {', '.join(FORMATS)} files in it, "
            f"or a metadata.csv with the columns file_name and subject_id{why}"
        )
    names: dict[str, str] = {}
    said: dict[tuple[str, str], object] = {}
    for photo in listing.photos:
        first = names.setdefault(subject_id(photo.subject), photo.subject)
        if first != photo.subject:
            raise LikenessError(
                f"the subjects {first!r} and {photo.subject!r} differ in case or marks only and both become "
                f"{subject_id(first)!r}: rename one of them, or put the photos together if they are one"
            )
        for column in ("split", "subject_class", "subject_text", "has_face"):
            value = getattr(photo.facts, column)
            before = said.setdefault((photo.subject, column), value)
            if before != value:
                raise LikenessError(f"subject {photo.subject!r} has two values of `{column}`: {before} and {value}")

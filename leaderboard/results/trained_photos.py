"""Which photos an entry learnt a subject from, as far as it says so: held-out ones must not be among them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from leaderboard.images.folder import some
from metrics.gallery import SubjectPhotos

TRAINED_ON, _OF_A_RUN = "trained_on", "photos"
"""Keys of a manifest: of LoRAs that were trained elsewhere, and of a run."""
Trained = Mapping[str, Sequence[str]]
"""SHA-256 of the files of the photos, by subject."""


def trained_on(manifest: Mapping | None, path: Path) -> dict[str, list[str]]:
    """What a manifest, read from ``path``, says; nothing of a subject of whom it does not.

    Raises:
        LikenessError: it is no list of hashes by subject.
    """
    return {subject: photos for subject, photos in _said(manifest, path).items() if photos is not None}


def unsaid(manifest: Mapping | None, path: Path) -> list[str]:
    """The subjects of a folder of LoRAs of whom it does not say it. Raises as :func:`trained_on` does."""
    return [subject for subject, photos in _said(manifest, path).items() if photos is None]


def _said(manifest: Mapping | None, path: Path) -> Mapping[str, list[str] | None]:
    name = TRAINED_ON if TRAINED_ON in (manifest or {}) else _OF_A_RUN
    found = (manifest or {}).get(name) or {}
    if not isinstance(found, Mapping) or not all(isinstance(photos, list | None) for photos in found.values()):
        raise LikenessError(f"{path}: {name} is {found!r}, no list of hashes by subject: correct or remove it")
    return found


def check_held_out(trained: Trained, subjects: Sequence[SubjectPhotos], who: str, way_out: str) -> None:
    """Raise ``LikenessError`` where ``who`` was trained on a photo of a subject that it is judged against."""
    held_out = {photo: subject.id for subject in subjects for photo in subject.hashes.held_out}
    wrong = sorted({held_out[photo] for photos in trained.values() for photo in photos if photo in held_out})
    if wrong:
        raise LikenessError(f"{who} was trained on held-out photos of {some(wrong)}: {way_out}")


def notes_on_photos_seen(label: str, trained: Trained, protocol: Protocol) -> Iterator[str]:
    """That an entry learnt from more or fewer photos of a subject than the protocol gives to everybody."""
    given = protocol.references or 1
    if odd := {len(trained[name]) for name in protocol.subjects if name in trained} - {given}:
        counts = " or ".join(map(str, sorted(odd)))
        yield f"{label} learnt from {counts} photos of a subject, protocol.references is {given}"


def notes_on_unsaid(label: str, subjects: Sequence[str], protocol: Protocol) -> Iterator[str]:
    """That nobody says which photos of ``subjects`` an entry was trained on."""
    if subjects:
        yield (
            f"{label} does not say which photos of {len(subjects)} of {len(protocol.subjects)} subjects it was trained "
            "on: held-out photos may be among them"
        )

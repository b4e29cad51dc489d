"""What an entry was trained on, as far as it says so: held-out photos must not be among it."""

from collections.abc import Iterator, Mapping, Sequence

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from leaderboard.images.folder import some
from lightning_modules.run import Run
from metrics.gallery import SubjectPhotos

Trained = Mapping[str, Sequence[str]]
"""SHA-256 of the files of the photos, by subject."""


def check_held_out(trained: Trained, subjects: Sequence[SubjectPhotos], who: str, way_out: str) -> None:
    """Raise ``LikenessError`` where ``who`` was trained on a photo of a subject that it is judged against."""
    held_out = {photo: subject.id for subject in subjects for photo in subject.hashes.held_out}
    wrong = sorted({held_out[photo] for photos in trained.values() for photo in photos if photo in held_out})
    if wrong:
        raise LikenessError(f"{who} was trained on held-out photos of {some(wrong)}: {way_out}")


def photos_of(run: Run) -> Trained:
    """What the manifest of a run says of the photos of each subject that it optimised; empty where it says nothing."""
    found = run.manifest.get("photos") or {}
    if not isinstance(found, dict) or not all(isinstance(photos, list) for photos in found.values()):
        raise LikenessError(f"{run.manifest_file}: photos is no list of hashes by subject")
    return found


def check_run_photos(run: Run, subjects: Sequence[SubjectPhotos]) -> None:
    """Raise ``LikenessError`` where a run that optimises per subject learnt from held-out photos."""
    check_held_out(
        photos_of(run),
        subjects,
        f"--runs: {run}",
        "enrol with as many data.enrolment.references as protocol.references says",
    )


def notes_on_photos_seen(label: str, trained: Trained, protocol: Protocol) -> Iterator[str]:
    """That an entry learnt from more or fewer photos of a subject than the protocol gives to everybody."""
    given = protocol.references or 1
    if odd := {len(trained[name]) for name in protocol.subjects if name in trained} - {given}:
        counts = " or ".join(map(str, sorted(odd)))
        yield f"{label} learnt from {counts} photos of a subject, protocol.references is {given}"

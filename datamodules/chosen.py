"""Whom a training learns from and is validated on, of the photos of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import LikenessError
from datamodules.batches.subjects import Enrolment
from datamodules.features.cache import content_key
from datamodules.index import Photo


@dataclass(frozen=True)
class ChosenPhotos:
    """The photos that a training uses."""

    training: list[Photo]
    """What is trained on; in an enrolment, the reference photos of all who are enrolled."""
    validation: list[Photo]
    """The validation split; in an enrolment, all photos of the subjects that are enrolled first."""
    nouns: dict[str, str]
    """What each subject of the dataset is called in plain text."""

    @classmethod
    def of(
        cls, photos: Sequence[Photo], source: str, subjects: Sequence[str] | None, enrolment: Enrolment | None
    ) -> "ChosenPhotos":
        """Choose from the photos of a dataset.

        Args:
            source: What errors call the dataset.
            subjects: Train on these subjects of the training split only; an enrolment has chosen its own.

        Raises:
            LikenessError: the training split is empty, or lacks a subject.
        """
        nouns = {photo.subject_id: photo.subject_class for photo in photos}
        if enrolment:
            first = enrolment.groups[0]
            return cls(enrolment.every_photo, [photo for photo in photos if photo.subject_id in first], nouns)
        training = [photo for photo in photos if photo.split == "train"]
        if not training:
            raise LikenessError(f"the training split of {source!r} is empty (column `split`)")
        known = {photo.subject_id for photo in training}
        for subject in subjects or ():
            if subject not in known:
                raise LikenessError(f"subject {subject!r} is not in the training split of {source!r}")
        training = [photo for photo in training if subjects is None or photo.subject_id in subjects]
        return cls(training, [photo for photo in photos if photo.split == "val"], nouns)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over contents, names and captions of the photos that are trained on."""
        names = [p.id if p.id == p.content else f"{p.content} {p.id}" for p in self.training]
        return content_key("\n".join(f"{name} {p.caption}" for name, p in zip(names, self.training, strict=True)))

"""The fixed grid of prompts and subjects that a method is validated on while it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.errors import LikenessError
from contracts.prompts import PLACEHOLDER
from contracts.records import Request
from datamodules.index import Photo, by_subject, reference_of
from datamodules.subjects import SubjectPhotos, subject_photos


@dataclass
class ValidationSettings:
    """What is generated for validation.

    Args:
        prompts: Prompts with the placeholder ``<subject>``; none leaves validation out.
        subjects: How many subjects of the validation split each prompt is generated for.
        batch_size: Images per batch of one process.
    """

    prompts: list[str] = field(default_factory=list)
    subjects: int = 8
    batch_size: int = 16

    def __post_init__(self) -> None:
        for prompt in self.prompts:
            if prompt.count(PLACEHOLDER) != 1:
                raise LikenessError(f"data.validation.prompts: {prompt!r} must hold {PLACEHOLDER} once")


class ValidationGrid:
    """The settings with photos of real subjects: the first ones, in sorted order, of ``photos``.

    Raises:
        LikenessError: there are prompts and no photos.
    """

    def __init__(self, settings: ValidationSettings, photos: Sequence[Photo], source: str) -> None:
        groups = by_subject(photos) if settings.prompts else {}
        if settings.prompts and not groups:
            raise LikenessError(f"the validation split of {source!r} is empty, and there are data.validation.prompts")
        self.settings = settings
        self._photos = {subject: groups[subject] for subject in sorted(groups)[: settings.subjects]}
        self.references = {subject: reference_of(photos) for subject, photos in self._photos.items()}
        """The reference photo of each subject."""

    def requests(self) -> list[Request]:
        """One sample for each prompt and subject."""
        return [
            Request(subject, f"v{i:02d}", prompt, "validation", 0)
            for i, prompt in enumerate(self.settings.prompts)
            for subject in self.references
        ]

    def subject_photos(self, resolution: int) -> list[SubjectPhotos]:
        """Reference and held-out photos of each subject, ``resolution`` pixels a side.

        Raises:
            LikenessError: a subject has no held-out photo, or a photo cannot be read.
        """
        return subject_photos(self._photos, resolution)

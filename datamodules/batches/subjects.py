"""Enrolling subjects by optimisation: each from its reference photos, many at once, one group after another."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch

from contracts.batch import SubjectBatch
from contracts.errors import LikenessError
from contracts.prompts import PLACEHOLDER
from contracts.settings import DETECTION_SIDES, detection_sides
from datamodules.features.store import Features
from datamodules.image_io import read_square
from datamodules.index import Photo, by_subject, read_photos, references_of
from datamodules.samplers import share
from networks.face_analysis import FacePack
from networks.keyed_noise import keyed_generator, keyed_normal

TIMESTEPS = 1000
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass
class EnrolmentSettings:
    """How subjects are enrolled.

    Args:
        steps: Optimisation steps for each subject.
        at_once: Subjects that are optimised together, over all processes; further ones follow in groups.
        prompts: What the photos show, with the placeholder, taken in turn step by step; ``None`` among them is each
            photo's own caption.
        face_classes: Class nouns whose photos must show a face.
        faces: Folder of the face pack that looks for it.
        det_size: Sides in pixels at which it looks.
    """

    steps: int = 1000
    at_once: int = 16
    prompts: list[str | None] = field(default_factory=lambda: ["a photo of a <subject>"])
    face_classes: list[str] = field(default_factory=list)
    faces: str | None = None
    det_size: int | list[int] = field(default_factory=lambda: list(DETECTION_SIDES))

    def __post_init__(self) -> None:
        for name in ("steps", "at_once"):
            if getattr(self, name) < 1:
                raise LikenessError(f"data.enrolment.{name} is {getattr(self, name)}, it must be at least 1")
        detection_sides(self.det_size, "data.enrolment.det_size")
        if not self.prompts:
            raise LikenessError("data.enrolment.prompts is empty: name at least one, null is each photo's own caption")
        for prompt in self.prompts:
            if prompt is not None and prompt.count(PLACEHOLDER) != 1:
                raise LikenessError(f"data.enrolment.prompts: {prompt!r} must hold {PLACEHOLDER} once")
        if self.face_classes and self.faces is None:
            raise LikenessError("data.enrolment.face_classes needs a face pack: set data.enrolment.faces")
        if self.faces is not None and not self.face_classes:
            raise LikenessError(
                "data.enrolment.faces looks at no photo without data.enrolment.face_classes: name the classes that "
                "need a face, such as [person], or take the face pack away (null)"
            )


@dataclass(frozen=True)
class Enrolment:
    """Who is enrolled in a run, from which photos, and in which groups."""

    photos: dict[str, list[Photo]]
    """The reference photos of each subject, in sorted order of the subjects: one, unless the dataset gives several."""
    settings: EnrolmentSettings
    seed: int

    @classmethod
    def plan(
        cls,
        photos: Sequence[Photo],
        subjects: Sequence[str] | None,
        settings: EnrolmentSettings,
        source: str,
        seed: int,
        resolution: int,
    ) -> "Enrolment":
        """Of the subjects named, or of all in the test split.

        Raises:
            LikenessError: a subject has no photo, or its photo no face where its class needs one, or a caption does
                not say the class noun; or there is no test split to take subjects from.
        """
        plan = cls(choose_references(photos, subjects, source), settings, seed)
        for photo in plan.every_photo:
            plan.prompts(photo)
        check_faces(plan.every_photo, settings, resolution)
        return plan

    def __len__(self) -> int:
        """Batches of all groups."""
        return len(self.groups) * self.settings.steps

    @property
    def every_photo(self) -> list[Photo]:
        """The reference photos of all subjects."""
        return [photo for photos in self.photos.values() for photo in photos]

    def photo_at(self, subject: str, step: int) -> Photo:
        """The photo of a subject's step: they take turns, each with all prompts before the next one."""
        photos = self.photos[subject]
        return photos[step // len(self.settings.prompts) % len(photos)]

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The subjects that are optimised together."""
        names, size = list(self.photos), self.settings.at_once
        return [tuple(names[i : i + size]) for i in range(0, len(names), size)]

    def prompts(self, photo: Photo) -> list[str]:
        """What a photo shows, with the placeholder, in as many words as the settings have."""
        return [caption_with_placeholder(photo) if prompt is None else prompt for prompt in self.settings.prompts]

    def stream(self, features: Features, rank: int, count: int) -> "EnrolmentStream":
        """The batches of process ``rank`` of ``count``."""
        return EnrolmentStream(self, features, rank, count)

    def to_json(self) -> dict:
        """What decides the batches besides the seed."""
        return {"subjects": list(self.photos), **asdict(self.settings)}


class EnrolmentStream:
    """Batch k of an enrolment: this process's subjects of group k // steps, at step k % steps.

    Noise and timestep are keyed by (seed, subject, step), and subject i of a group belongs to process i modulo their
    number: nothing is padded, and a subject's rows do not depend on the other subjects.
    """

    def __init__(self, plan: Enrolment, features: Features, rank: int = 0, count: int = 1) -> None:
        self._plan, self._features, self._rank, self._count = plan, features, rank, count

    def __getitem__(self, number: int) -> SubjectBatch:
        steps, seed = self._plan.settings.steps, self._plan.seed
        group, step = self._plan.groups[number // steps], number % steps
        mine = share(group, self._rank, self._count)
        photos = {subject: self._plan.photo_at(subject, step) for subject in group}
        # Of the whole group: a process without a subject takes the shape from the others'.
        moments = self._features["moments"].rows([photos[subject].sha256 for subject in group])
        sizes = self._features.sizes([photos[subject] for subject in mine]) if mine else None
        latent = (moments.shape[1] // 2, *moments.shape[2:])
        return SubjectBatch(
            group=group,
            step=step,
            subjects=tuple(mine),
            prompts=tuple(prompts[step % len(prompts)] for prompts in (self._plan.prompts(photos[s]) for s in mine)),
            moments=moments[self._rank :: self._count],
            latent_noise=_noise("enrol latent", seed, mine, step, latent),
            noise=_noise("enrol noise", seed, mine, step, latent),
            timestep=torch.tensor([_timestep(seed, subject, step) for subject in mine], dtype=torch.int64),
            sizes=sizes,
        )


def _timestep(seed: int, subject: str, step: int) -> int:
    """Uniform in 0..999 for each step, and evenly spread over successive ones, so that no stage waits for its turn.

    Multiples of the golden ratio, from a start of the subject's own.
    """
    start = float(torch.rand((), generator=keyed_generator("enrol", seed, subject), dtype=torch.float64))
    return int((start + step * GOLDEN_RATIO) % 1.0 * TIMESTEPS)


def _noise(what: str, seed: int, subjects: Sequence[str], step: int, shape: tuple[int, ...]) -> torch.Tensor:
    drawn = [keyed_normal(shape, what, seed, subject, step) for subject in subjects]
    return torch.stack(drawn) if drawn else torch.empty(0, *shape)


def choose_references(photos: Sequence[Photo], subjects: Sequence[str] | None, source: str) -> dict[str, list[Photo]]:
    """The reference photos of each subject: of those named, or of all in the test split, in sorted order.

    Raises:
        LikenessError: a subject has no photo, or there is no test split to take subjects from.
    """
    groups = by_subject(photos if subjects is not None else [p for p in photos if p.split == "test"])
    if not groups:
        raise LikenessError(f"the test split of {source!r} is empty: name the subjects to enrol with data.subjects")
    for subject in subjects if subjects is not None else ():
        if subject not in groups:
            raise LikenessError(f"subject {subject!r} has no reference photo in {source!r}: add one or leave it out")
    return {
        subject: references_of(groups[subject]) for subject in sorted(groups if subjects is None else set(subjects))
    }


def check_faces(photos: Sequence[Photo], settings: EnrolmentSettings, resolution: int) -> None:
    """Look for a face in the photos of subjects whose class needs one.

    Raises:
        LikenessError: naming the first subject whose photo shows none.
    """
    wanted = [photo for photo in photos if photo.subject_class in settings.face_classes]
    if not wanted or settings.faces is None:
        return
    pack = FacePack(settings.faces, settings.det_size)
    for files in read_photos(wanted):
        name = f"the reference photo of {files.photo.subject_id}"
        if not pack.judge(read_square(files.image, name, resolution)[None]).found[0]:
            raise LikenessError(
                f"{name} shows no face, which the class {files.photo.subject_class!r} needs: give another photo, or "
                "leave the subject out with data.subjects"
            )


def caption_with_placeholder(photo: Photo) -> str:
    """The photo's caption, its first mention of the class noun replaced by the placeholder.

    Raises:
        LikenessError: the caption does not mention the noun.
    """
    said, count = re.subn(rf"(?<!\S){re.escape(photo.subject_class)}(?!\w)", PLACEHOLDER, photo.caption, count=1)
    if not count:
        raise LikenessError(
            f"the caption of {photo.subject_id}'s reference photo does not say {photo.subject_class!r}: set "
            "data.enrolment.prompts"
        )
    return said.strip()

"""A subject's real photos, and what the judges see in them: all that its images are judged against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metrics.functional.leakage import fit_pose_reader
from metrics.judges import Observation

NO_BACKGROUND = -1


@dataclass(frozen=True)
class SubjectPhotos:
    """One subject: ``reference`` (H, W, 3) and ``held_out`` (K, H, W, 3), RGB uint8 squares.

    What is known of them lists the reference first: ``poses`` (1 + K, 3), yaw, pitch and roll in degrees, NaN where
    they are not known, ``backgrounds`` (1 + K,), which are ids, ``NO_BACKGROUND`` where they are not known, and the
    words for each of these, which may be empty.
    """

    id: str
    noun: str
    reference: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    poses: NDArray[np.float32]
    backgrounds: NDArray[np.int64]
    background_texts: tuple[str, ...]
    mask: NDArray[np.uint8] | None = None
    """(H, W): 255 on the person in the reference; ``None`` where it is not known."""
    has_face: bool = True
    """Whether photos of the subject show a face, as the dataset or the protocol says. An object has none."""
    boxes: NDArray[np.float32] | None = None
    """(1 + K, 4): x0, y0, x1, y1 of the face in each photo, NaN where it is not known; ``None`` where none is."""

    @property
    def cut_out(self) -> NDArray[np.uint8]:
        """The reference as methods see it: (H, W, 4) with the mask as alpha where it is known, else (H, W, 3)."""
        return self.reference if self.mask is None else np.dstack([self.reference, self.mask])

    @property
    def photos(self) -> NDArray[np.uint8]:
        """All photos (1 + K, H, W, 3), the reference first."""
        return np.concatenate([self.reference[None], self.held_out])


@dataclass(frozen=True)
class Gallery:
    """One subject's photos as the judges see them.

    ``reference`` holds vectors (D,) and ``held_out`` (K, D) by the names of ``Observation.features``, all 0 where a
    photo has none. ``other_backgrounds`` (D,) is the mean over the other subjects' references, 0 if there are none.
    ``background`` is the index of the reference's background among ``background_means`` (C, D), -1 where it is not
    known and for an object, whose photos do not say what is background; ``background_text`` is its words. ``pose`` (3,)
    is the reference's yaw, pitch and roll in degrees, NaN where they are not known, ``pose_reader`` (11, 3) reads them
    from landmarks, NaN where no photo's pose is known.
    """

    reference: Mapping[str, NDArray[np.float32]]
    held_out: Mapping[str, NDArray[np.float32]]
    other_backgrounds: NDArray[np.float32]
    background: int
    background_text: str
    background_means: NDArray[np.float32]
    pose: NDArray[np.float32]
    pose_reader: NDArray[np.float64]
    has_face: bool = True
    """Whether the subject has a face. An object has none, and so no score of identity."""

    @property
    def usable(self) -> NDArray[np.intp]:
        """Indices of the held-out photos that show a face; all of them for an object."""
        if not self.has_face:
            return np.arange(len(self.held_out["faces"]))
        return np.flatnonzero(np.any(self.held_out["faces"] != 0, axis=1))

    def mean(self, name: str) -> NDArray[np.float64]:
        """Mean held-out vector (D,), not normalised again, over the photos that have one; NaN where none has."""
        photos = self.held_out[name].astype(np.float64)
        known = photos[np.any(photos != 0, axis=1)]
        return known.mean(axis=0) if len(known) else np.full(photos.shape[1], np.nan)

    def without(self, photo: int) -> "Gallery":
        """The gallery for judging its own held-out photo of index ``photo``."""
        return replace(self, held_out={name: np.delete(rows, photo, axis=0) for name, rows in self.held_out.items()})


def make_galleries(subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]) -> dict[str, Gallery]:
    """Galleries by subject, of what the judges see (``seen``, by subject) in its photos, the reference first."""
    pose_reader = _pose_reader(subjects, seen)
    classes, means = _background_classes(subjects, seen)
    backgrounds = np.stack([seen[subject.id].features["clip_background"][0] * subject.has_face for subject in subjects])
    galleries = {}
    for i, subject in enumerate(subjects):
        features = seen[subject.id].features
        own = int(subject.backgrounds[0])
        galleries[subject.id] = Gallery(
            reference={name: rows[0] for name, rows in features.items()},
            held_out={name: rows[1:] for name, rows in features.items()},
            other_backgrounds=_mean_known(np.delete(backgrounds, i, axis=0)),
            background=classes.index(own) if subject.has_face and own in classes else NO_BACKGROUND,
            background_text=subject.background_texts[0],
            background_means=means,
            pose=subject.poses[0],
            pose_reader=pose_reader,
            has_face=subject.has_face,
        )
    return galleries


def _shown(subject: SubjectPhotos, seen: Mapping[str, Observation]) -> NDArray[np.bool_]:
    """Which photos (1 + K,) show the subject's face; what is found in photos of an object is none."""
    return seen[subject.id].judged.found & subject.has_face


def _mean_known(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of those of the vectors (N, D) that are not 0; 0 if none is."""
    return features.sum(axis=0) / max(1, int(np.any(features != 0, axis=1).sum()))


def _pose_reader(subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]) -> NDArray[np.float64]:
    known = {subject.id: _shown(subject, seen) & np.isfinite(subject.poses).all(axis=1) for subject in subjects}
    return fit_pose_reader(
        np.concatenate([seen[subject.id].judged.landmarks[known[subject.id]] for subject in subjects]),
        np.concatenate([subject.poses[known[subject.id]] for subject in subjects]),
    )


def _background_classes(
    subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]
) -> tuple[list[int], NDArray[np.float32]]:
    """Ids of the known backgrounds that photos with a face have, and the mean feature of each."""
    known = {subject.id: _shown(subject, seen) & (subject.backgrounds != NO_BACKGROUND) for subject in subjects}
    ids = np.concatenate([subject.backgrounds[known[subject.id]] for subject in subjects])
    rows = np.concatenate([seen[subject.id].features["clip_background"][known[subject.id]] for subject in subjects])
    classes = sorted({int(i) for i in ids})
    means = [rows[ids == i].mean(axis=0) for i in classes]
    return classes, np.stack(means) if means else np.zeros((0, rows.shape[1]), np.float32)

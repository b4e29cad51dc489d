"""What is known of a subject from its real photos: all that its images are judged against."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Gallery:
    """One subject's photos as the judges see them.

    ``reference`` holds vectors (D,) and ``held_out`` (K, D) by the names of ``Observation.features``, all 0 where a
    photo has none. ``other_backgrounds`` (D,) is the mean over the other subjects' references, 0 if there are none.
    ``background`` is the index of the reference's background among ``background_means`` (C, D), -1 for an object, whose
    photos do not say what is background; ``background_text`` is its words. ``pose`` (3,) is the reference's yaw, pitch
    and roll in degrees, ``pose_reader`` (11, 3) reads them from landmarks.
    """

    reference: Mapping[str, NDArray[np.float32]]
    held_out: Mapping[str, NDArray[np.float32]]
    other_backgrounds: NDArray[np.float32]
    background: int
    background_text: str
    background_means: NDArray[np.float32]
    pose: NDArray[np.float32]
    pose_reader: NDArray[np.float64]

    @property
    def has_face(self) -> bool:
        """Whether the subject has a face, as its reference shows. An object has none, and so no score of identity."""
        return bool(np.any(self.reference["faces"]))

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

"""Whether a subject's photos show one person, and what strangers' faces have in common, as a face pack sees them.

Both are measured on the photos of an evaluation itself. A cosine says nothing by itself: with some packs strangers have
0.0, with others 0.8.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metrics.gallery import Gallery

Faces = Mapping[str, NDArray[np.float32]]
"""Face embeddings (1 + K, D) of each subject with a face, the reference's first, 0 where a photo shows none."""


def faces_of(galleries: Mapping[str, Gallery], name: str = "faces") -> Faces:
    """The face embeddings that a feature of the galleries holds, ``faces`` or ``second``."""
    return {
        subject: np.concatenate([gallery.reference[name][None], gallery.held_out[name]])
        for subject, gallery in galleries.items()
        if gallery.has_face and name in gallery.reference
    }


def mean_of_strangers(faces: Faces) -> float:
    """Mean cosine between photos of different subjects; NaN with fewer than two subjects."""
    cosines, owners = _cosines(faces)
    return float(cosines[owners[:, None] != owners].mean()) if len(set(owners)) > 1 else float("nan")


def odd_photos(faces: Faces) -> dict[str, list[int]]:
    """Photos, 0 for the reference, that are nearer to a stranger's than to their own subject's, by subject.

    That is so where the median cosine to the subject's other photos lies below the middle between two medians: that
    over all pairs of photos of one subject, and that over all pairs of different ones. Nothing is odd where there are
    no strangers, or where they are as alike as a subject's own photos.
    """
    cosines, owners = _cosines(faces)
    own = (owners[:, None] == owners) & ~np.eye(len(owners), dtype=bool)
    others = owners[:, None] != owners
    if not own.any() or not others.any():
        return {}
    same, strangers = np.median(cosines[own]), np.median(cosines[others])
    photos = np.concatenate([np.flatnonzero(rows.any(axis=1)) for rows in faces.values()])
    odd: dict[str, list[int]] = {}
    for i, subject in enumerate(owners):
        if same > strangers and own[i].any() and np.median(cosines[i, own[i]]) < (same + strangers) / 2:
            odd.setdefault(str(subject), []).append(int(photos[i]))
    return odd


def _cosines(faces: Faces) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Cosines (N, N) of all faces, and whose they are (N,)."""
    shown = {subject: rows[rows.any(axis=1)] for subject, rows in faces.items()}
    if not shown:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.str_)
    every = np.concatenate(list(shown.values()))
    return every @ every.T, np.repeat(list(shown), [len(rows) for rows in shown.values()])

"""Whether a subject's photos show one person, and what strangers' faces have in common, as a face pack sees them.

Both are measured on the photos of an evaluation itself. A cosine says nothing by itself: with some packs strangers have
0.0, with others 0.8.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metrics.gallery import Gallery

STRANGERS = 2_000
"""So many photos at most are paired with those of strangers: the pairs grow with the square."""
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
    shown = [rows.astype(np.float64) for rows in _shown(faces).values()]
    if len(shown) < 2:
        return float("nan")
    # A sum of cosines is the square of a sum of vectors.
    sums, counts = np.stack([rows.sum(axis=0) for rows in shown]), np.array([len(rows) for rows in shown])
    of_strangers = np.square(sums.sum(axis=0)).sum() - np.square(sums).sum()
    return float(of_strangers / (counts.sum() ** 2 - np.square(counts).sum()))


def odd_photos(faces: Faces) -> dict[str, list[int]]:
    """Photos, 0 for the reference, that are nearer to a stranger's than to their own subject's, by subject.

    That is so where the median cosine to the subject's other photos lies below the middle between two medians: that
    over all pairs of photos of one subject, and that over pairs of different ones, among at most ``STRANGERS`` photos.
    Nothing is odd where there are no strangers, or where they are as alike as a subject's own photos.
    """
    shown = _shown(faces)
    own = {subject: _to_others(rows) for subject, rows in shown.items() if len(rows) > 1}
    if not own or len(shown) < 2:
        return {}
    same = np.median(np.concatenate([cosines.ravel() for cosines in own.values()]))
    strangers = np.median(_between_strangers(shown))
    if same <= strangers:
        return {}
    odd = {
        subject: np.flatnonzero(faces[subject].any(axis=1))[np.median(cosines, axis=1) < (same + strangers) / 2]
        for subject, cosines in own.items()
    }
    return {subject: photos.tolist() for subject, photos in odd.items() if len(photos)}


def _shown(faces: Faces) -> dict[str, NDArray[np.float32]]:
    """The embeddings of photos that show a face, of the subjects that have one."""
    return {subject: rows[rows.any(axis=1)] for subject, rows in faces.items() if rows.any()}


def _to_others(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines (N, N - 1) of N photos to the other ones."""
    return (rows @ rows.T)[~np.eye(len(rows), dtype=bool)].reshape(len(rows), -1)


def _between_strangers(shown: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The cosines of all pairs of different subjects' photos, among ``STRANGERS`` photos spread evenly."""
    every = np.concatenate(list(shown.values()))
    owners = np.repeat(np.arange(len(shown)), [len(rows) for rows in shown.values()])
    some = np.linspace(0, len(every) - 1, min(len(every), STRANGERS)).round().astype(int)
    return (every[some] @ every[some].T)[owners[some, None] != owners[some]]

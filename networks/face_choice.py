"""Whose face is it? Which of several faces in a photo is judged.

Faces of a photo are given largest box first: their boxes (N, 4) in its pixels and their embeddings (N, D) of length 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from networks.face_detectors import overlap

Floats = NDArray[np.float32]


def face_at(boxes: Floats, known: Floats) -> int | None:
    """Index of the face that lies in the box ``known`` (4,); ``None`` where no face has a part in it.

    Where the box holds NaN nobody knows where the face is: the largest is taken.
    """
    if not len(boxes):
        return None
    if np.isnan(known).any():
        return 0
    shared = overlap(boxes, known)
    return int(shared.argmax()) if shared.max() > 0 else None


def own_faces(boxes: Sequence[Floats], embeddings: Sequence[Floats], known: Floats | None) -> list[int | None]:
    """Index of the subject's own face in each of its photos, ``None`` where it is not there.

    It is the face in the box ``known`` (P, 4) of the photo. Without a box (``None`` or NaN) it is the one that agrees
    with the subject's other photos: the face that all photos have most in common is found first, and then each photo
    gives the face that is nearest to those of the others. A subject with one photo has its largest face.
    """
    known = np.full((len(boxes), 4), np.nan, np.float32) if known is None else known
    chosen = [face_at(here, box) for here, box in zip(boxes, known, strict=True)]
    candidates = {
        i: embeddings[i] if np.isnan(known[i]).any() else embeddings[i][[number]]
        for i, number in enumerate(chosen)
        if number is not None
    }
    open_photos = [i for i, some in candidates.items() if len(some) > 1]
    if not open_photos or len(candidates) < 2:
        return chosen
    seed = _most_in_common(candidates)
    picked = {i: int((some @ seed).argmax()) for i, some in candidates.items()}
    for i in open_photos:
        others = np.sum([candidates[j][number] for j, number in picked.items() if j != i], axis=0)
        picked[i] = int((candidates[i] @ others).argmax())
        chosen[i] = picked[i]
    return chosen


def _most_in_common(candidates: dict[int, Floats]) -> Floats:
    """The embedding of the face that is nearest, in the mean, to the nearest face of every other photo."""
    score = {
        (i, k): np.mean([(other @ face).max() for j, other in candidates.items() if j != i])
        for i, some in candidates.items()
        for k, face in enumerate(some)
    }
    photo, number = max(score, key=score.__getitem__)
    return candidates[photo][number]

"""Which face of each photo is the subject's own, and which photos show somebody else: by agreement, never by a fixed
cosine.

A face agrees with a subject as far as its median cosine to the subject's faces in other photos goes; the median, so
that some photos of somebody else do not count. What is much is measured in the same folder: strangers are the faces of
other subjects, and those beside the subject's own face in one photo. A photo must agree with its subject more than
halfway from the strangers' level to the subject's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.face_choice import own_faces

_MAX_STRANGERS = 2000  # faces; more say nothing new
_MAX_OWN = 300  # photos of a subject that a face is compared with
_FEW = 8
"""So many agreements of strangers are needed to know their level."""
_GAP = (5.0, 1.5)
"""Without strangers an agreement is another person's if it is below the subject's median by so many typical deviations,
and by so many times what the median is below 1."""


@dataclass(frozen=True)
class Agreement:
    """The faces of one subject.

    Args:
        faces: The own face of each of P photos, by its place among the photo's faces; -1 where the photo has none.
        values: (P,) how much each own face agrees with the others, NaN where there is nothing to agree with.
        limit: What it must reach; NaN where the photos do not say it.
        strangers: The strangers' level, NaN without any.
        by: What the limit was measured with, in words.
    """

    faces: NDArray[np.int64]
    values: NDArray[np.float64]
    limit: float
    strangers: float
    by: str

    @property
    def agreeing(self) -> NDArray[np.bool_]:
        """(P,): which own faces agree with the subject; all that have a face where there is nothing to go by."""
        known = ~np.isnan(self.values)
        return (self.faces >= 0) & (~known | np.isnan(self.limit) | (np.nan_to_num(self.values, nan=1.0) >= self.limit))

    @property
    def low(self) -> float:
        """What nine in ten photos that agree exceed, NaN where there is none."""
        inside = self.values[self.agreeing & ~np.isnan(self.values)]
        return float(np.quantile(inside, 0.1)) if len(inside) else float("nan")

    @property
    def level(self) -> float:
        """The median agreement of the photos that agree, NaN where there is none."""
        inside = self.values[self.agreeing & ~np.isnan(self.values)]
        return float(np.median(inside)) if len(inside) else float("nan")


def agree(embeddings: Mapping[str, Sequence[NDArray[np.float32]]]) -> dict[str, Agreement]:
    """Choose the own faces of every subject and compare them.

    Args:
        embeddings: By subject, for each of its photos the embeddings (N, D) of the faces in it, largest first.
    """
    chosen = {subject: choose_faces(photos) for subject, photos in embeddings.items()}
    result = {}
    for subject, faces in chosen.items():
        own = _rows(embeddings[subject], faces)
        strangers = _strangers(subject, chosen, embeddings)
        # Somebody else's photos among a subject's own lower its level, so it is measured again without them.
        found = _judged(faces, own, strangers, faces >= 0)
        for _ in range(2):
            found = _judged(faces, own, strangers, found.agreeing)
        result[subject] = found
    return result


def _judged(
    faces: NDArray[np.int64], own: NDArray[np.float64], strangers: NDArray[np.float64], base: NDArray[np.bool_]
) -> Agreement:
    """How a subject's own faces (P, D) agree with those of them that ``base`` (P,) says are the subject's."""
    there = faces >= 0
    base = base if base.sum() > 1 else there
    values = np.full(len(faces), np.nan)
    if there.sum() < 2:
        return Agreement(faces, values, float("nan"), float("nan"), "one photo: nothing to compare")
    some = np.flatnonzero(base)
    some = some[_spread(len(some), _MAX_OWN)]
    for i in np.flatnonzero(there):
        values[i] = np.median(own[some[some != i]] @ own[i])
    median = float(np.median(values[base]))
    if len(strangers) >= _FEW:
        known = np.median(strangers @ own[some].T, axis=1)
        level = float(np.median(known))
        limit = max((level + median) / 2, float(np.quantile(known, 0.95)))
        return Agreement(faces, values, limit, level, f"{len(strangers)} faces of other people in these photos")
    spread = 1.4826 * float(np.median(np.abs(values[base] - median)))
    limit = median - max(_GAP[0] * spread, _GAP[1] * (1 - median)) if base.sum() > 2 else float("nan")
    return Agreement(faces, values, limit, float("nan"), "the subject's other photos: too few other people here")


def choose_faces(photos: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    """The face (P,) of each photo that agrees most with the subject's other photos; -1 where a photo has none."""
    there = [i for i, found in enumerate(photos) if len(found)]
    some = [there[i] for i in _spread(len(there), _MAX_OWN).tolist()]
    faces = np.array([0 if len(found) else -1 for found in photos], np.int64)
    # Where the faces lie decides nothing here, only that the largest one comes first.
    found = own_faces([np.zeros((len(photos[i]), 4), np.float32) for i in some], [photos[i] for i in some], None)
    for i, face in zip(some, found, strict=True):
        faces[i] = -1 if face is None else face
    if len(some) < len(there):
        common = np.sum([photos[i][faces[i]] for i in some], axis=0)
        for i in sorted(set(there) - set(some)):
            faces[i] = int((photos[i] @ common).argmax())
    return faces


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of ``count`` places, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def _rows(photos: Sequence[NDArray[np.float32]], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """The own faces (P, D), 0 where a photo has none."""
    width = next((found.shape[1] for found in photos if len(found)), 0)
    rows = np.zeros((len(photos), width))
    for i in np.flatnonzero(faces >= 0).tolist():
        rows[i] = photos[i][faces[i]]
    return rows


def _strangers(
    subject: str,
    chosen: Mapping[str, NDArray[np.int64]],
    embeddings: Mapping[str, Sequence[NDArray[np.float32]]],
) -> NDArray[np.float64]:
    """Faces (N, D) that are not the subject's: own faces of other subjects, and those beside the subject's own."""
    beside = [
        np.delete(found, own, axis=0)
        for found, own in zip(embeddings[subject], chosen[subject], strict=True)
        if own >= 0 and len(found) > 1
    ]
    others = [other for other in chosen if other != subject]
    each = max(1, _MAX_STRANGERS // max(len(others), 1))
    for other in others[:: max(1, len(others) // _MAX_STRANGERS)]:
        faces = chosen[other]
        there = np.flatnonzero(faces >= 0)[:each]
        beside += [embeddings[other][i][faces[i]][None] for i in there]
    return np.concatenate(beside).astype(np.float64) if beside else np.zeros((0, 0))

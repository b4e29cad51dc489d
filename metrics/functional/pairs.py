"""Which of the faces of an image stands for which of two subjects, and how well they stand for them."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.floating]
Matching = dict[int, int]
"""The face of each subject, 0 or 1, that has one. No face has two subjects."""


def match_faces(similarities: Floats) -> Matching:
    """The matching of F faces to two subjects with the greatest sum of ``similarities`` (F, 2).

    A single face stands for the subject that it is more like, and the other one is missed. Of more than two faces those
    are left over that no matching profits from.
    """
    faces, subjects = linear_sum_assignment(similarities, maximize=True)
    return dict(zip(subjects.tolist(), faces.tolist(), strict=True))


def pair_identity(similarities: Floats, matching: Matching) -> float:
    """The mean over the two subjects of the similarity of the matched face, 0 for a subject that is missed."""
    return sum(float(similarities[face, subject]) for subject, face in matching.items()) / 2


def pair_confusion(similarities: Floats, matching: Matching) -> float:
    """The share of the two subjects that are not there as themselves: whose matched face is more like the other
    subject, or who are missed."""
    right = sum(similarities[face, subject] >= similarities[face, 1 - subject] for subject, face in matching.items())
    return 1 - int(right) / 2

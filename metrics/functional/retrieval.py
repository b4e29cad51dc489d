"""Whose photo a generated face is most like, among those of all people."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def first_is_right(own: Floats, others: Floats, owners: NDArray[np.integer]) -> float:
    """1 where the mean cosine to the person's own photos (K,) is above that to each other person's, else 0.

    ``others`` (M,) are the cosines to all other people's photos, ``owners`` (M,) whose each is.
    """
    sums, counts = np.bincount(owners, others), np.bincount(owners)
    return float(own.mean() > (sums[counts > 0] / counts[counts > 0]).max())


def average_precision(own: Floats, others: Floats) -> float:
    """Average precision in 0..1 of a ranking by cosine in which the photos ``own`` (K,) are to come before ``others``
    (M,): for each of them the share of own photos among those that are at least as alike, and the mean of these."""
    before = (own[None] >= own[:, None]).sum(axis=1)
    return float(np.mean(before / (before + (others[None] >= own[:, None]).sum(axis=1))))

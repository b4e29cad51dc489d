"""Which subjects train, validate and test, and which photos a method may see of those that are judged."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def split_of(subject: str, shares: Sequence[float], seed: int) -> str:
    """The split of a subject, from its name and the seed alone: adding others moves nobody.

    Args:
        shares: Of train, val and test; they add up to 1.
    """
    digest = hashlib.sha256(f"{seed}/{subject}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < shares[2]:
        return "test"
    return "val" if place < shares[2] + shares[1] else "train"


def references(
    poses: Sequence[NDArray[np.floating] | None], sides: Sequence[float], names: Sequence[str], count: int
) -> list[int]:
    """The photos of a subject that a method may see: the most frontal ones, then the largest ones.

    At least one photo is left to be judged against.

    Args:
        poses: Yaw, pitch and roll of each photo in degrees, ``None`` where unknown.
        sides: Pixels that each crop was cut from.
        names: Decide between equals.
        count: How many references.
    """

    def worth(i: int) -> tuple[float, float, str]:
        pose = poses[i]
        return math.inf if pose is None else round(math.hypot(*pose[:2].tolist())), -sides[i], names[i]

    order = sorted(range(len(names)), key=worth)
    return sorted(order[: min(count, len(order) - 1)])

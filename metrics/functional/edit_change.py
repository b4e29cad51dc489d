"""What an edit changes in a image, inside the head and outside of it."""

import numpy as np
from numpy.typing import NDArray

from metrics.regions import Region, person_region

HEAD = Region(hair=0.7, head=0.9, shoulders=0.0)
"""The head with its hair and the neck, without the shoulders: what an edit of a face may change."""


def edit_change(before: NDArray[np.uint8], after: NDArray[np.uint8], box: NDArray[np.floating]) -> tuple[float, float]:
    """Mean absolute difference of two images (H, W, 3), inside and outside the head, each in 0..1.

    ``box`` (4,) is x0, y0, x1, y1 of the face, brows to chin, in ``before``. A region without a pixel counts as 0.
    """
    difference = np.abs(before.astype(np.float64) - after.astype(np.float64)).mean(axis=-1) / 255
    head = person_region(box, before.shape[0], before.shape[1], HEAD)
    inside, outside = (float(difference[part].mean()) if part.any() else 0.0 for part in (head, ~head))
    return inside, outside

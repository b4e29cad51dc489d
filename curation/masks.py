"""Where the subject is in a crop: by GrabCut from the face's box or the middle."""

import cv2
import numpy as np
from numpy.typing import NDArray

from metrics.regions import TIGHT, WIDE, Region, person_region

GRABCUT_SIDE = 192
"""GrabCut takes 2 to 4 seconds at 512 pixels, and its edge is refined at full size in a hundredth of that."""
_INNER = Region(hair=0.1, head=0.42, shoulders=0.7)  # what is person in any portrait
_ROUNDS = 2
_MARGIN = 0.06  # at the border of a square there is more background than object, if there is any

Mask = NDArray[np.bool_]


def grabcut(crop: NDArray[np.uint8], box: NDArray[np.floating] | None) -> tuple[Mask, str] | None:
    """The subject (H, W) in a crop (H, W, 3) RGB and how it was found, ``None`` if it was not.

    Args:
        crop: A square.
        box: (4,) of the face. Where GrabCut fails it says what is person in most portraits. Without it the subject is
            what differs from the border.
    """
    height, width = crop.shape[:2]
    factor = min(1.0, GRABCUT_SIDE / max(height, width))
    small = cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else crop
    likely = _likely(small.shape[0], small.shape[1], None if box is None else box * factor)
    try:
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), likely, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
        found = _connected((likely & 1) == 1, likely == cv2.GC_FGD)
    except cv2.error:  # one of the two has too few pixels
        found = np.zeros(small.shape[:2], bool)
    if box is not None and not _plausible(found, person_region(box * factor, len(small), small.shape[1], TIGHT)):
        return person_region(box, height, width, TIGHT), "region"
    if box is None and not 0.02 < found.mean() < 0.9:
        return None
    return refined(crop, found), "grabcut"


def refined(crop: NDArray[np.uint8], small: Mask) -> Mask:
    """A mask made larger, to the size of the crop (H, W, 3), its edge drawn to that of the image by a guided filter
    (He et al., 2013)."""
    height, width = crop.shape[:2]
    if small.shape == (height, width):
        return small
    size = (width, height)
    soft = cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    guide = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    reach = 2 * max(2, round(width / small.shape[1] * 2)) + 1

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.blur(values, (reach, reach), borderType=cv2.BORDER_REPLICATE)

    average, level = mean(guide), mean(soft)
    slope = (mean(guide * soft) - average * level) / (mean(guide * guide) - average**2 + 1e-4)
    return mean(slope) * guide + mean(level - slope * average) > 0.5


def own_part(mask: Mask, box: NDArray[np.floating]) -> Mask:
    """What of a mask (H, W) hangs together with the face in ``box`` (4,): another thing in the picture does not."""
    return _connected(mask, person_region(box, mask.shape[0], mask.shape[1], _INNER))


def _likely(height: int, width: int, box: NDArray[np.floating] | None) -> NDArray[np.uint8]:
    """What GrabCut starts from (H, W): what is surely and what is likely inside."""
    if box is None:
        start = np.full((height, width), cv2.GC_BGD, np.uint8)
        y, x = max(1, round(_MARGIN * height)), max(1, round(_MARGIN * width))
        start[y:-y, x:-x] = cv2.GC_PR_FGD
        return start
    start = np.full((height, width), cv2.GC_BGD, np.uint8)
    for region, value in ((WIDE, cv2.GC_PR_BGD), (TIGHT, cv2.GC_PR_FGD), (_INNER, cv2.GC_FGD)):
        start[person_region(box, height, width, region)] = value
    return start


def _connected(mask: Mask, seed: Mask) -> Mask:
    """The parts of a mask that hang together with the seed; the largest part where nothing of the seed is inside."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:
        return mask
    touched = np.setdiff1d(np.unique(labels[seed & mask]), [0])
    if not len(touched):
        touched = np.array([1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())])
    return np.isin(labels, touched)


def _plausible(mask: Mask, expected: Mask) -> bool:
    """Whether a person's mask is about where a person is."""
    return bool((mask & expected).sum() > 0.5 * expected.sum() and mask.sum() < 3.0 * expected.sum())

"""Whether a photo is sharp, and whether two photos are nearly the same one."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import blur_effect

from curation.crops import Square, cut

BLURRED = 0.65
"""From this blur on a photo is dropped. Sharp portraits have 0.37 to 0.54, with a blur of 3 pixels for a face of 100
they have 0.68 and more."""
SAME = 0.97
"""From this correlation of their thumbnails on two photos are one. Photos of one subject before one background have
0.94 at most; the same photo saved again, made smaller or made lighter has 0.98 and more."""
SIGNATURE = 32  # pixels of a thumbnail's side
_BLOCK = 1000  # thumbnails that are compared at once
_BLUR_SIDE = 112  # pixels: finer detail than this is not what a face is recognised by


def blur_of(pixels: NDArray[np.uint8], box: NDArray[np.float32]) -> float:
    """How blurred (H, W, 3) is inside a box, 0 sharp to 1, by the measure of Crete et al. (2007)."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = np.clip(np.rint(box), 0, [width, height, width, height]).astype(int)
    inside = pixels[y0:y1, x0:x1]
    if min(inside.shape[:2]) < 8:
        return 0.0  # too small to say
    grey = cv2.cvtColor(inside, cv2.COLOR_RGB2GRAY)
    factor = _BLUR_SIDE / max(grey.shape)
    if factor < 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    blur = float(blur_effect(grey)) if grey.min() < grey.max() else 0.0
    return blur if np.isfinite(blur) else 0.0


def signature(pixels: NDArray[np.uint8], square: Square) -> NDArray[np.uint8]:
    """A grey thumbnail (S, S) of a square of an image."""
    grey = cv2.cvtColor(cut(pixels, square), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (SIGNATURE, SIGNATURE), interpolation=cv2.INTER_AREA)


def duplicates(signatures: NDArray[np.uint8], order: Sequence[int]) -> dict[int, int]:
    """Which photos show nearly the same as an earlier one in ``order``, and which one that is.

    Args:
        signatures: (N, S, S) thumbnails.
        order: The photos, those that are rather kept first.
    """
    flat = signatures.reshape(len(signatures), -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    kept: list[int] = []
    found: dict[int, int] = {}
    for first in range(0, len(order), _BLOCK):
        some = list(order[first : first + _BLOCK])
        before = len(kept)
        others = [*kept, *some]
        alike = flat[some] @ flat[others].T >= SAME
        stay = np.arange(len(others)) < before  # which of the others are kept
        for row, i in enumerate(some):
            twins = np.flatnonzero(alike[row] & stay)
            if len(twins):
                found[i] = others[twins[0]]
            else:
                kept.append(i)
                stay[before + row] = True
    return found

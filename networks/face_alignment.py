"""Square crops of upright faces by five landmarks, framed like FFHQ; and the template of ArcFace's crops.

W+ encoders are trained on such crops, so codes depend on this file: caches carry :data:`VERSION`, which changes
whenever a crop would.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError

VERSION = "five-point-ffhq-1"

EYE_FACTOR = 2.0
MOUTH_FACTOR = 1.8
"""Half a crop's side is the larger of 2.0 eye distances and 1.8 distances from the eyes to the mouth, as in FFHQ."""
DOWN = 0.1
"""The centre lies that share of the way from the eyes to the mouth below the eyes."""

ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
"""Where the ArcFace family puts eyes, nose tip and corners of the mouth in a crop of 112 pixels."""


def similarity(points: NDArray[np.floating], template: NDArray[np.floating] = ARCFACE) -> NDArray[np.float64]:
    """The (2, 3) rotation, scale and shift that brings (5, 2) points nearest to the template (least squares)."""
    a, b = points - points.mean(axis=0), template - template.mean(axis=0)
    power = max(float((a**2).sum()), 1e-9)
    cos = (a * b).sum() / power
    sin = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / power
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([turn, (template.mean(axis=0) - turn @ points.mean(axis=0))[:, None]], axis=1)


def alignment(landmarks: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """The (2, 3) similarity that maps pixels of an image to pixels of its crop of side ``size``.

    ``landmarks`` (5, 2): the viewer's left eye, right eye, nose tip, left and right corner of the mouth, x, y pixels.
    The horizontal axis follows the eyes and, at right angles, the line from the eyes to the mouth, so a turned head is
    still framed; FFHQ averages its many landmarks to the same four points (Karras et al. 2019, appendix A; that five
    suffice is our choice). Raises :class:`LikenessError` where they coincide or are not finite.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise LikenessError(f"face alignment takes five finite landmarks (5, 2), not {points.shape}")
    eyes = points[:2].mean(axis=0)
    mouth = points[3:].mean(axis=0)
    across = points[1] - points[0]
    down = mouth - eyes
    axis = across + np.array([down[1], -down[0]])
    half = max(EYE_FACTOR * np.hypot(*across), MOUTH_FACTOR * np.hypot(*down))
    if np.hypot(*axis) < 1e-6 or half < 1e-6:
        raise LikenessError("face alignment: the landmarks coincide or show a face upside down, no upright crop exists")
    cos, sin = axis / np.hypot(*axis)
    scale = size / (2 * half)
    turn = scale * np.array([[cos, sin], [-sin, cos]])
    centre = eyes + DOWN * down
    # A pixel's middle has whole coordinates, so the middle of the crop lies at (size - 1) / 2.
    return np.concatenate([turn, ((size - 1) / 2 - turn @ centre)[:, None]], axis=1)


def align_face(image: NDArray[np.uint8], landmarks: NDArray[np.floating], size: int) -> NDArray[np.uint8]:
    """The crop (size, size, 3) of an image (H, W, 3), or (size, size) of a mask (H, W).

    What lies outside the image is its reflection, as in FFHQ. A large image is first averaged down to less than twice
    the crop's scale, so that nothing aliases. Raises :class:`LikenessError` as :func:`alignment` does.
    """
    transform = alignment(landmarks, size)
    shrink = int(1 / np.hypot(*transform[0, :2]))
    if shrink > 1:
        height, width = (max(1, side // shrink) for side in image.shape[:2])
        ratio = np.array([image.shape[1] / width, image.shape[0] / height])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        transform[:, 2] += transform[:, :2] @ ((ratio - 1) / 2)
        transform[:, :2] *= ratio
    return cv2.warpAffine(image, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

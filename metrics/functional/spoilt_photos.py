"""Photos with a spoilt face, to see what judges make of them: a face painted over is none, whoever's hair is around it.

All take an RGB image (H, W, 3) uint8 and five landmarks (5, 2) in its pixels: eyes, nose, corners of the mouth.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Landmarks = NDArray[np.floating]


def eyes_painted_over(image: Image, landmarks: Landmarks) -> Image:
    """Both eyes in the colour of the cheeks."""
    mask = np.zeros(image.shape[:2], np.uint8)
    apart = _apart(landmarks)
    for eye in landmarks[:2]:
        _ellipse(mask, eye, 0.42 * apart, 0.36 * apart, _turn(landmarks))
    return _blend(image, cheek_colour(image, landmarks), mask)


def inner_face_painted_over(image: Image, landmarks: Landmarks) -> Image:
    """Eyes, nose and mouth in the colour of the cheeks."""
    return _blend(image, cheek_colour(image, landmarks), inner_face(image, landmarks))


def inner_face_blurred(image: Image, landmarks: Landmarks) -> Image:
    """Eyes, nose and mouth under a Gaussian of 0.35 times the distance of the eyes."""
    return _blend(image, cv2.GaussianBlur(image, (0, 0), 0.35 * _apart(landmarks)), inner_face(image, landmarks))


def recoloured(image: Image, landmarks: Landmarks, colour: NDArray[np.floating]) -> Image:
    """The face with its cheeks in ``colour`` (3,), all else of it lighter or darker by as much."""
    shifted = image + (colour - cheek_colour(image, landmarks))
    return _blend(image, shifted.clip(0, 255), inner_face(image, landmarks, 1.5))


def cheek_colour(image: Image, landmarks: Landmarks) -> NDArray[np.float64]:
    """The mean colour (3,) of two spots between the eyes and the corners of the mouth."""
    high, wide = image.shape[:2]
    radius = max(1, round(0.06 * _apart(landmarks)))
    spots = []
    for eye, corner in zip(landmarks[:2], landmarks[3:], strict=True):
        x, y = np.round(0.45 * eye + 0.55 * corner).astype(int).clip(0, (wide - 1, high - 1))
        spots.append(image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].reshape(-1, 3))
    return np.concatenate(spots).mean(axis=0)


def inner_face(image: Image, landmarks: Landmarks, larger: float = 1.0) -> NDArray[np.uint8]:
    """A mask (H, W) of an ellipse around all five landmarks, 255 inside."""
    mask = np.zeros(image.shape[:2], np.uint8)
    down = np.linalg.norm(landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0))
    centre = landmarks.mean(axis=0)
    _ellipse(mask, centre, 1.1 * larger * _apart(landmarks), 1.1 * larger * float(down), _turn(landmarks))
    return mask


def _apart(landmarks: Landmarks) -> float:
    return max(2.0, float(np.linalg.norm(landmarks[1] - landmarks[0])))


def _turn(landmarks: Landmarks) -> float:
    across = landmarks[1] - landmarks[0]
    return float(np.degrees(np.arctan2(across[1], across[0])))


def _ellipse(mask: NDArray[np.uint8], centre: Landmarks, across: float, down: float, turn: float) -> None:
    x, y, a, b = (round(float(value) * 16) for value in (*centre, across, down))
    cv2.ellipse(mask, (x, y), (a, b), turn, 0, 360, 255, -1, cv2.LINE_8, 4)


def _blend(image: Image, other: NDArray[np.generic], mask: NDArray[np.uint8]) -> Image:
    soft = cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None].astype(np.float64) / 255
    return (soft * other + (1 - soft) * image).round().astype(np.uint8)

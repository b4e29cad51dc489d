"""Leakage: how far what is not identity, background, head pose and clothes, comes over from the reference photo.

Backgrounds are compared by features of images whose person region is grey. Poses of references are known; those of
generated faces are read from their five landmarks by a ridge regression that is fitted on photos of known pose.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

FREE_ANGLE = 45.0
"""Degrees between two head poses at which nothing of the pose is said to have come over."""
_RIDGE = 1e-2


def background_leakage(features: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Cosine to the own reference's background minus the mean cosine to those of other subjects, (B,) in float64.

    0 is no leakage. ``features`` and ``own`` (B, D) are unit features, ``others`` (B, D) the means of those of the
    other subjects.
    """
    return (features.double() * (own.double() - others.double())).sum(dim=-1)


def nearest_class(features: Tensor, means: Tensor) -> Tensor:
    """Index (B,) of the class mean (C, D) nearest to each feature (B, D)."""
    return torch.cdist(features.double(), means.double()).argmin(dim=1)


def class_copied(features: Tensor, own: Tensor, means: Tensor) -> Tensor:
    """1 where the class mean nearest to a background, or to clothes, is that of the reference's, else 0: (B,) in
    float64.

    NaN throughout with fewer than two classes, as the nearest of one says nothing. ``features`` (B, D), ``own`` (B,)
    indices into ``means`` (C, D).
    """
    if len(means) < 2:
        return torch.full((len(features),), torch.nan, dtype=torch.float64, device=features.device)
    return (nearest_class(features, means) == own).double()


def clothes_colour(image: NDArray[np.uint8], box: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean colour (3,) in CIELAB of what is worn below the neck, from an RGB image (H, W, 3) and the face's box
    (x0, y0, x1, y1) in pixels; NaN where the box lies beside the image.

    The region is as wide as the box and begins a quarter of its height below it; of a close portrait it is the last
    sixteenth of the image.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    height = len(image)
    top = min(round(y1 + 0.25 * (y1 - y0)), height - max(1, height // 16))
    region = image[max(0, top) :, max(0, round(x0)) : max(0, round(x1))]
    if not region.size:
        return np.full(3, np.nan, np.float32)
    return cv2.cvtColor(region.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3).mean(axis=0)


def landmark_shape(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 11): landmarks (N, 5, 2) free of position and size, and a constant 1 for the regression's offset."""
    points = landmarks.astype(np.float64)
    points = points - points.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(points).sum(axis=(1, 2), keepdims=True)).clip(min=1e-9)
    return np.concatenate([(points / size).reshape(len(points), 10), np.ones((len(points), 1))], axis=1)


def fit_pose_reader(landmarks: NDArray[np.floating], poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weights (11, 3) that map :func:`landmark_shape` of (N, 5, 2) to yaw, pitch, roll (N, 3) in degrees; NaN where
    there is no photo to learn from."""
    if not len(poses):
        return np.full((11, 3), np.nan)
    shapes = landmark_shape(landmarks)
    penalty = _RIDGE * np.eye(11)
    penalty[10, 10] = 0.0  # the offset is free
    # A pseudo-inverse: with fewer photos than weights and no spread the system may be singular.
    return np.linalg.pinv(shapes.T @ shapes + penalty) @ shapes.T @ poses.astype(np.float64)


def pose_leakage(poses: NDArray[np.floating], references: NDArray[np.floating]) -> Tensor:
    """1 for the reference's pose, falling to 0 at ``FREE_ANGLE``: (B,) of yaw, pitch, roll (B, 3) each in degrees.

    The angle is that of the rotation between the two poses; NaN where one of them is.
    """
    leaked = np.full(len(poses), np.nan)
    known = np.isfinite(poses).all(axis=1) & np.isfinite(references).all(axis=1)
    if known.any():
        leaked[known] = (1 - pose_angle(poses[known], references[known]) / FREE_ANGLE).clip(min=0.0)
    return torch.from_numpy(leaked)


def pose_angle(poses: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angle (B,) in degrees of the rotation between poses (B, 3), each yaw, pitch and roll in degrees; B is not 0."""
    return np.degrees((_rotation(poses) * _rotation(others).inv()).magnitude())


def _rotation(poses: NDArray[np.floating]) -> Rotation:
    return Rotation.from_euler("YXZ", poses.astype(np.float64), degrees=True)

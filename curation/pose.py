"""Yaw, pitch and roll of heads from five landmarks, by ``cv2.solvePnP`` with a 3-D face that is fitted to the photos.

A generic face is the start. Where a person's face differs from it, in a nose that is longer or eyes that lie higher,
all of that person's poses would be wrong by the same turn. So it is fitted to the photos of each subject, and stays
near the generic one where they are few. Which turn of a face is level cannot be seen in landmarks: it is the one at
which the median photo looks neither up nor down, as far as a subject has photos. Nobody's pose depends on other
subjects.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

GENERIC = (-0.98, 0.95, 0.79, 1.02, 0.70)
"""In half distances of the eyes, from the tip of the nose, y downward and z away from the viewer: y and z of the eyes,
then x, y and z of the corners of the mouth."""
YAW_EDGES = (15.0, 40.0)
PITCH_EDGES = (15.0,)
ROLL_EDGES = (12.0,)
"""Degrees at which classes change, to either side."""

_FAR = 40.0  # distance of the viewer in half distances of the eyes: a metre and a quarter
_CAMERA = np.array([[_FAR, 0.0, 0.0], [0.0, _FAR, 0.0], [0.0, 0.0, 1.0]])
_EACH = 40  # photos that a face is fitted to
_ROUNDS = 8
_NOISE = 0.05  # of landmarks, in half distances of the eyes
_SPREAD = 0.1  # of people's faces about the generic one, in the same
_DOUBT = 5  # photos that weigh as much as the generic face's belief of what is level
# How the numbers of a face make its five points: eyes, nose, corners of the mouth.
_BASE = np.array([[-1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], np.float64)
_MOVES = np.zeros((5, 5, 3))
_MOVES[0, :2, 1] = _MOVES[1, :2, 2] = _MOVES[3, 3:, 1] = _MOVES[4, 3:, 2] = 1
_MOVES[2, 3:, 0] = -1, 1

Face = NDArray[np.float64]
Pose = tuple[NDArray[np.float64], NDArray[np.float64]]


def estimate(landmarks: Sequence[NDArray[np.floating]], subjects: Sequence[str]) -> NDArray[np.float32]:
    """Yaw, pitch and roll (N, 3) in degrees, positive to the viewer's right, up and clockwise.

    Args:
        landmarks: For each photo (5, 2) x, y: eyes, nose, corners of the mouth, the viewer's left one first.
        subjects: Whose they are.
    """
    if not len(landmarks):
        return np.zeros((0, 3), np.float32)
    views = np.stack([_normal(marks) for marks in landmarks])
    names = np.array(subjects)
    angles = np.zeros((len(views), 3), np.float32)
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        few = own[np.linspace(0, len(own) - 1, min(_EACH, len(own))).round().astype(int)]
        face = _levelled(_fitted(views[few]), views[few])
        angles[own] = [_angles(_pose(face, view)) for view in views[own]]
    return angles


def pose_class(angles: NDArray[np.floating]) -> int:
    """The class of a pose (3,): 0 is frontal, and equal classes are equal bins of yaw, pitch and roll."""
    number, scale = 0, 1
    for angle, edges in zip(angles.tolist(), (YAW_EDGES, PITCH_EDGES, ROLL_EDGES), strict=True):
        step = int(np.searchsorted(edges, abs(angle)))
        number += scale * (2 * step - (angle > 0) if step else 0)
        scale *= 2 * len(edges) + 1
    return number


def _normal(marks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Landmarks about their centre, at the size that the 3-D face has at its distance."""
    points = np.asarray(marks, np.float64)
    points = points - points.mean(axis=0)
    return 1.3 * points / max(float(np.sqrt((points**2).sum(axis=1).mean())), 1e-6)


def _points(face: Face) -> NDArray[np.float64]:
    return _BASE + np.tensordot(face, _MOVES, 1)


def _pose(face: Face, view: NDArray[np.float64]) -> Pose:
    """Rotation (3, 1) and shift (3, 1) of a face in a view (5, 2)."""
    eyes = view[1] - view[0]
    turn = np.array([[0.0], [0.0], [np.arctan2(eyes[1], eyes[0])]])
    shift = np.array([[view[2, 0]], [view[2, 1]], [_FAR]])
    _, turn, shift = cv2.solvePnP(_points(face), view, _CAMERA, None, turn, shift, True, flags=cv2.SOLVEPNP_ITERATIVE)
    return turn, shift


def _angles(pose: Pose) -> tuple[float, float, float]:
    matrix = cv2.Rodrigues(pose[0])[0]
    right, down, away = -matrix[:, 2]  # where the nose points
    yaw, pitch = np.arctan2(right, -away), np.arctan2(-down, np.hypot(right, away))
    roll = np.arctan2(matrix[1, 0], matrix[0, 0])
    yaw, pitch, roll = np.degrees([yaw, pitch, roll]).tolist()
    return yaw, pitch, roll


def _fitted(views: NDArray[np.float64]) -> Face:
    """The face that fits the views (N, 5, 2) best, near the generic one: poses and face are found in turn."""
    face = prior = np.array(GENERIC)
    for _ in range(_ROUNDS):
        rows, wanted = [np.eye(5) / _SPREAD], [prior / _SPREAD]
        for view in views:
            turn, shift = _pose(face, view)
            matrix = cv2.Rodrigues(turn)[0]
            for axis in (0, 1):
                # The projection, multiplied out, is linear in the points.
                seen = (_FAR * matrix[axis] - view[:, axis : axis + 1] * matrix[2]) / shift[2]
                offset = (_FAR * shift[axis] - view[:, axis] * shift[2]) / shift[2]
                rows.append(np.einsum("nj,knj->nk", seen, _MOVES) / _NOISE)
                wanted.append(-((seen * _BASE).sum(axis=1) + offset) / _NOISE)
        face = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)[0]
    return face


def _levelled(face: Face, views: NDArray[np.float64]) -> Face:
    """The face turned up or down so that the median pitch of the views (N, 5, 2) is 0, with few of them by a share of
    that; how it projects stays the same."""
    share = len(views) / (len(views) + _DOUBT)
    pitch = share * np.radians(np.median([_angles(_pose(face, view))[1] for view in views]))
    cosine, sine = np.cos(pitch), np.sin(pitch)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return np.concatenate([turn @ face[:2], face[2:3], turn @ face[3:]])

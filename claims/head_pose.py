"""Head poses of drawn faces, and how far they are to be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.subjects import SubjectPhotos
from metrics.functional.leakage import fit_pose_reader, landmark_shape, pose_angle
from networks.face_analysis import FacePack


@dataclass(frozen=True)
class PoseReader:
    """The leaderboard's reading of head poses from five landmarks. It takes some of a face's shape for its pose, so a
    difference below ``error``, the mean angle in degrees by which it is off on the photos that it was fitted on, is
    none."""

    weights: NDArray[np.float64]
    error: float

    def turn(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> NDArray[np.float64]:
        """Angle (B,) in degrees between the poses of landmarks (B, 5, 2)."""
        return pose_angle(*(landmark_shape(landmarks) @ self.weights for landmarks in (before, after)))


def pose_reader(faces: FacePack, subjects: Sequence[SubjectPhotos]) -> PoseReader:
    """Fitted on the photos of ``subjects`` in which ``faces`` finds a face."""
    judged = [faces.judge(subject.photos) for subject in subjects]
    landmarks = np.concatenate([photos.landmarks[photos.found] for photos in judged])
    poses = np.concatenate([s.poses[photos.found] for s, photos in zip(subjects, judged, strict=True)])
    weights = fit_pose_reader(landmarks, poses)
    return PoseReader(weights, float(pose_angle(landmark_shape(landmarks) @ weights, poses).mean()))

"""What the measured claims share: identity and head pose of generated faces, and one value for each subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.subjects import SubjectPhotos
from metrics.functional.identity import gallery_mean, gallery_similarity
from metrics.functional.leakage import fit_pose_reader, landmark_shape, pose_angle
from networks.face_analysis import FacePack, JudgedFaces

Values = NDArray[np.float64]
BATCH = 16
"""Images that are generated at once."""


def subject_galleries(faces: FacePack, photos: Mapping[str, NDArray[np.uint8]]) -> dict[str, Tensor]:
    """The mean embedding (D,) of the faces in each subject's photos (K, H, W, 3)."""
    galleries = {}
    for subject, images in photos.items():
        judged = faces.judge(images)
        galleries[subject] = gallery_mean(torch.from_numpy(judged.embeddings[judged.found]))
    return galleries


def identities(judged: JudgedFaces, galleries: Sequence[Tensor]) -> Values:
    """Mean cosine (B,) of each judged face to the photos behind its gallery mean (D,); 0 where no face was found."""
    return gallery_similarity(torch.from_numpy(judged.embeddings), torch.stack(list(galleries))).numpy()


def subject_means(values: Values, samples: int) -> Values:
    """Means (S,) over the finite ones among each subject's ``samples``, from (S * samples,); NaN where none is."""
    rows = values.reshape(-1, samples)
    known = np.isfinite(rows)
    sums = np.where(known, rows, 0.0).sum(axis=1)
    counts = known.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True)
class PoseReader:
    """The leaderboard's reading of head poses from five landmarks.

    It takes some of a face's shape for its pose. So a difference below ``error`` says nothing.
    """

    weights: NDArray[np.float64]
    error: float
    """Mean angle in degrees between the poses that it reads and the true ones, on the photos that it was fitted on."""

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

"""Face detectors behind one interface, and how what they find at several sides becomes one list of faces.

A detector sees faces of certain sizes in its input. Insightface pools what it finds at 128 and at 640 pixels and keeps
the detection with the best score. Here the input that suits a face best supplies its box and landmarks: the largest one
in which the face is no longer than ``LARGEST_FACE``. Landmarks are finer there. Longer faces are found badly: on
portraits read with YuNet, embeddings at 640 are nearer to those of the whole photo up to 400 pixels (0.98 and 0.96 in
the mean), and those at 128 beyond (0.94 and 0.96, where the worst at 640 is another face's, -0.09).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError

SCORE_THRESHOLD = 0.5
LARGEST_FACE = 416
"""Longest side of a face in a detector's input, in pixels, at which its landmarks are still good."""
SAME_FACE = 0.4
"""Two boxes with a larger intersection over union are one face: insightface's own limit."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Detections:
    """N faces in one image, in its pixels."""

    boxes: NDArray[np.float32]
    """(N, 4): x0, y0, x1, y1."""
    landmarks: NDArray[np.float32]
    """(N, 5, 2): x, y of the eyes, the nose and the corners of the mouth, of each pair the one on the image's left
    first."""
    scores: NDArray[np.float32]
    """(N,): confidence, over ``SCORE_THRESHOLD``."""


class FaceDetector(Protocol):
    """Finds the faces in an image."""

    def find(self, image: Image, side: int) -> Detections:
        """The faces in a BGR image (H, W, 3), fitted into a square of ``side`` pixels, a multiple of 32."""


class ScrfdDetector:
    """A detector in insightface's form, run by insightface.

    Raises:
        LikenessError: it gives no landmarks.
    """

    def __init__(self, model: Any, name: str) -> None:
        if not model.use_kps:
            raise LikenessError(f"face pack '{name}': its detector gives no landmarks, so faces cannot be aligned")
        model.prepare(0, input_size=(128, 128), det_thresh=SCORE_THRESHOLD)
        self.model = model

    def find(self, image: Image, side: int) -> Detections:
        found, landmarks = self.model.detect(image, input_size=(side, side))
        return Detections(found[:, :4], landmarks, found[:, 4])


class YuNetDetector:
    """OpenCV's detector, run by OpenCV at any side, whatever input the file was exported with."""

    def __init__(self, file: Path) -> None:
        self._net = cv2.FaceDetectorYN.create(str(file), "", (128, 128), SCORE_THRESHOLD)

    def find(self, image: Image, side: int) -> Detections:
        scale = side / max(image.shape[:2])
        height, width = (max(1, int(length * scale)) for length in image.shape[:2])
        fitted = np.zeros((side, side, 3), np.uint8)
        fitted[:height, :width] = cv2.resize(image, (width, height))
        self._net.setInputSize((side, side))
        _, rows = self._net.detect(fitted)
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        back = np.array([image.shape[1] / width, image.shape[0] / height], np.float32)
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return Detections(corners * np.tile(back, 2), rows[:, 4:14].reshape(-1, 5, 2) * back, rows[:, 14])


def find_faces(detector: FaceDetector, image: Image, sides: Sequence[int]) -> Detections:
    """The faces in a BGR image (H, W, 3), largest box first, each as the side that suits it best sees it."""
    found = [detector.find(image, side) for side in sides]
    boxes = np.concatenate([one.boxes for one in found])
    side = np.repeat(sides, [len(one.boxes) for one in found])
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) * side / max(image.shape[:2])
    fits = longest <= LARGEST_FACE
    kept: list[int] = []
    for i in np.lexsort((np.where(fits, -side, side), ~fits)):
        # Within a side the detector itself has taken each face once.
        others = [k for k in kept if side[k] != side[i]]
        if not (overlap(boxes[others], boxes[i]) > SAME_FACE).any():
            kept.append(int(i))
    kept.sort()
    kept.sort(key=lambda i: float(np.prod(boxes[i, 2:] - boxes[i, :2])), reverse=True)
    return Detections(
        boxes[kept],
        np.concatenate([one.landmarks for one in found])[kept],
        np.concatenate([one.scores for one in found])[kept],
    )


def overlap(boxes: NDArray[np.floating], box: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union (N,) of boxes (N, 4) with one box (4,), 0 where they have no area in common."""
    lengths = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = lengths.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return common / (areas - common).clip(min=1e-9)

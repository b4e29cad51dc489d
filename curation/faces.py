"""The faces of a photo, found at the sizes that the photo asks for, and their landmarks found again upright."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from networks.face_analysis import FacePack

Landmarks = NDArray[np.float32]

_MIRRORED = [1, 0, 2, 4, 3]  # the landmarks of a mirrored face
_ROOM = 8.0  # side of the upright crop in mean distances of the landmarks from their centre


@dataclass(frozen=True)
class Found:
    """One face: ``box`` (4,), ``landmarks`` (5, 2), the detector's ``score``, ``embedding`` (D,) of length 1."""

    box: NDArray[np.float32]
    landmarks: Landmarks
    score: float
    embedding: NDArray[np.float32]

    def scaled(self, factor: float) -> "Found":
        """The same face in a photo that was scaled."""
        return replace(self, box=self.box * np.float32(factor), landmarks=self.landmarks * np.float32(factor))


class FaceFinder:
    """Finds faces with a pack.

    Args:
        source: The pack's folder.
        sides: Sides of the detector's input in pixels. A photo that is no longer than the first one is read at that
            alone: a larger input shows nothing more of it.

    Raises:
        LikenessError: the pack cannot be used.
    """

    def __init__(self, source: str, sides: Sequence[int]) -> None:
        self._pack = FacePack(source, det_size=sides)
        self._small = FacePack(source, det_size=min(sides))
        self._large = FacePack(source, det_size=max(sides))
        self.fingerprint = f"{self._pack.key}/{self._small.key}"
        _ = self._pack.detector, self._pack.recogniser  # refused here, before any photo is read

    def find(self, pixels: NDArray[np.uint8]) -> list[Found]:
        """The faces of an image (H, W, 3) RGB, largest first."""
        pack = self._small if self._is_small(pixels) else self._pack
        return [Found(face.bbox, face.landmarks, face.score, face.embedding) for face in pack.analyse(pixels[None])[0]]

    def upright(self, pixels: NDArray[np.uint8], landmarks: Landmarks) -> Landmarks:
        """The landmarks (5, 2) of a face in an image, found again: in a crop that is turned upright, and in its mirror
        image.

        A detector places the landmarks of a tilted face nearer to those of an upright one, and those of a face and of
        its mirror image not alike: both would show in the pose. A small photo was seen whole and is only mirrored.
        """
        if self._is_small(pixels):
            there = self._mirrored(self._small, pixels, landmarks.mean(axis=0))
            return landmarks if there is None else ((landmarks + there) / 2).astype(np.float32)
        side = self._large.det_size[0]
        centre = landmarks.mean(axis=0)
        spread = max(float(np.sqrt(((landmarks - centre) ** 2).sum(axis=1).mean())), 1.0)
        along = landmarks[1] + landmarks[4] - landmarks[0] - landmarks[3]
        angle, scale = float(np.arctan2(along[1], along[0])), side / (_ROOM * spread)
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = np.array([side / 2, side / 2])
        shift = middle - turn @ centre
        crop = cv2.warpAffine(pixels, np.column_stack([turn, shift]), (side, side), borderMode=cv2.BORDER_REPLICATE)
        both = (_nearest(self._large, crop, middle), self._mirrored(self._large, crop, middle))
        found = [marks for marks in both if marks is not None]
        if not found:
            return landmarks
        return ((np.mean(found, axis=0) - shift) @ np.linalg.inv(turn).T).astype(np.float32)

    def _is_small(self, pixels: NDArray[np.uint8]) -> bool:
        return max(pixels.shape[:2]) <= self._small.det_size[0]

    @staticmethod
    def _mirrored(pack: FacePack, pixels: NDArray[np.uint8], near: NDArray) -> Landmarks | None:
        """The landmarks that are found in the mirror image, where they lie in the image itself."""
        right = pixels.shape[1] - 1
        found = _nearest(pack, np.ascontiguousarray(pixels[:, ::-1]), np.array([right - near[0], near[1]]))
        return None if found is None else (found[_MIRRORED] * [-1, 1] + [right, 0]).astype(np.float32)


def _nearest(pack: FacePack, pixels: NDArray[np.uint8], near: NDArray) -> Landmarks | None:
    """The landmarks of the face at a place of an image, if there is one."""
    faces = pack.detector.find(np.ascontiguousarray(pixels[..., ::-1]), pack.sides[0]).landmarks
    away = np.linalg.norm(faces.mean(axis=1) - near, axis=1)
    return faces[int(away.argmin())] if len(faces) and away.min() < min(pixels.shape[:2]) / 8 else None

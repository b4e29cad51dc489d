"""The faces of a photo, found at the sizes that the photo asks for, and their landmarks found again upright."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from networks.face_analysis import Face, FacePack

_MIRRORED = (1, 0, 2, 4, 3)  # the landmarks of a mirrored face
_ROOM = 8.0  # side of the upright crop in mean distances of the landmarks from their centre


@dataclass(frozen=True)
class Found:
    """One face: ``box`` (4,), ``landmarks`` (5, 2), the detector's ``score``, ``embedding`` (D,) of length 1."""

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float
    embedding: NDArray[np.float32]

    def scaled(self, factor: float) -> "Found":
        """The same face in a photo that was scaled."""
        return replace(self, box=self.box * np.float32(factor), landmarks=self.landmarks * np.float32(factor))


class FaceFinder:
    """Finds faces with a pack.

    Args:
        source: The pack's folder.
        sides: Sides of the detector's input in pixels.
    """

    def __init__(self, source: str, sides: Sequence[int]) -> None:
        self._sides = sorted(set(sides))
        self._packs = {side: FacePack(source, det_size=side) for side in self._sides}
        first = self._packs[self._sides[0]]
        self.fingerprint = f"{first.fingerprint}/{self._sides}"
        _ = first.app  # a pack that cannot be used is refused before any photo is read

    def find(self, pixels: NDArray[np.uint8]) -> list[Found]:
        """The faces of an image (H, W, 3) RGB, largest first."""
        faces: list[Face] = []
        for side in self._wanted(max(pixels.shape[:2])):
            faces = _merged(self._packs[side].analyse(pixels[None])[0], faces)
        found = [Found(face.bbox, face.landmarks, face.score, face.embedding) for face in faces]
        return sorted(found, key=lambda face: float(np.prod(face.box[2:] - face.box[:2])), reverse=True)

    def upright(self, pixels: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """The landmarks (5, 2) of a face in an image, found again in a crop that is turned upright and in its mirror
        image.

        A detector places the landmarks of a tilted face nearer to those of an upright one, and those of a face and of
        its mirror image not alike: both would show in the pose. A photo that the detector saw whole at its smallest
        size has no more to show, and its landmarks stay.
        """
        side = self._sides[-1]
        if max(pixels.shape[:2]) <= self._sides[0]:
            return landmarks
        centre = landmarks.mean(axis=0)
        spread = float(np.sqrt(((landmarks - centre) ** 2).sum(axis=1).mean()))
        along = landmarks[1] + landmarks[4] - landmarks[0] - landmarks[3]
        angle, scale = float(np.arctan2(along[1], along[0])), side / (_ROOM * spread)
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        shift = np.array([side / 2, side / 2]) - turn @ centre
        crop = cv2.warpAffine(
            pixels,
            np.column_stack([turn, shift]),
            (side, side),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        here = _nearest(self._packs[side].analyse(crop[None])[0], side)
        there = _nearest(self._packs[side].analyse(np.ascontiguousarray(crop[:, ::-1])[None])[0], side)
        if there is not None:
            there = there[list(_MIRRORED)] * [-1, 1] + [side - 1, 0]
        found = [marks for marks in (here, there) if marks is not None]
        if not found:
            return landmarks
        return ((np.mean(found, axis=0) - shift) @ np.linalg.inv(turn).T).astype(np.float32)

    def _wanted(self, longest: int) -> list[int]:
        """The sides that an image of this length is read at: a larger one shows nothing more of a small image."""
        return [side for below, side in zip([0, *self._sides], self._sides, strict=False) if longest > below]


def _merged(new: list[Face], old: list[Face]) -> list[Face]:
    """Faces found at a larger size, and those of smaller sizes that are no face of the larger one."""
    return new + [face for face in old if all(_overlap(face.bbox, other.bbox) < 0.4 for other in new)]


def _overlap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    inside = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return inside / max(sum(areas) - inside, 1e-6)


def _nearest(faces: list[Face], side: int) -> NDArray[np.float32] | None:
    """The landmarks of the face in the middle of a square image, if there is one."""
    middle = np.array([side / 2, side / 2])
    inside = [f for f in faces if np.linalg.norm(f.landmarks.mean(axis=0) - middle) < side / 8]
    return (
        min(inside, key=lambda f: float(np.linalg.norm(f.landmarks.mean(axis=0) - middle))).landmarks
        if inside
        else None
    )

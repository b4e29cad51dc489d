"""Which parts of a detected face can be read: a third network of a face pack, in a form of our own.

A detector says that there is a head, and takes a smooth oval with hair for one. A pack that has this network does not:
what shows fewer than ``LEAST`` readable parts is no face to it. The file has one input (N, 3, 64, 64), RGB in -1..1,
crops by the ArcFace template, and one output ``face_parts`` (N, 4), the probability that each of :data:`PARTS` is
readable. Stock insightface passes over it.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from networks.face_alignment import ARCFACE, similarity

PARTS = ("left eye", "right eye", "nose", "mouth")
"""In the order of the output; left and right as the viewer sees them."""
OUTPUT = "face_parts"
SIDE = 64
"""Side of a crop in pixels."""
READABLE = 0.5
"""The probability from which a part counts as readable."""
LEAST = 2
"""So many readable parts make a face."""
MOST_ENLARGED = 2.4
"""A crop that enlarges a face more than so, in an image that the detector sees at twice its size, shows nothing that
could be read: 48 pixels of the detector's input. Such a face is one if the detector says so, and is not complete."""
_FACE = 57.6  # longest side in pixels of a face's box in a crop
Image = NDArray[np.uint8]


def crop(image: Image, landmarks: NDArray[np.float32]) -> Image:
    """The crop (64, 64, 3) of the face with these landmarks (5, 2) in an image (H, W, 3)."""
    to_crop = similarity(landmarks, (ARCFACE + 0.5) * (SIDE / 112) - 0.5)
    # A large face is averaged, not sampled: what one pixel of the crop shows is what the eye would see there.
    scale = float(np.hypot(*to_crop[0, :2]))
    if scale < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), 0.35 / scale)
    return cv2.warpAffine(image, to_crop, (SIDE, SIDE))


def is_large_enough(box: NDArray[np.float32], seen: float) -> bool:
    """Whether the face in this box (4,) takes enough pixels to be read, and its landmarks can be exact enough.

    ``seen`` is the smallest size at which the detector saw the image, over its own. Landmarks themselves say nothing of
    it: on faces that a detector sees too small they may lie anywhere.
    """
    longest = max(float((box[2:] - box[:2]).max()), 1e-9)
    return _FACE / longest * 2 / seen <= MOST_ENLARGED


class FacePartsReader:
    """Reads crops with an ONNX Runtime session of such a file."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name

    def read(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Probabilities (N, 4) that the parts of N RGB crops (64, 64, 3) are readable."""
        if not len(crops):
            return np.zeros((0, len(PARTS)), np.float32)
        batch = (np.stack(crops).astype(np.float32) - 127.5) / 127.5
        return self._session.run(None, {self._input: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))})[0]

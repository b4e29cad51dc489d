"""Face recognisers behind one interface: a crop that is aligned by five landmarks, and its embedding."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
_ALIGNED = 112
"""Side of the crop that the ArcFace template of five landmarks is given for."""


class FaceRecogniser(Protocol):
    """Embeds faces."""

    width: int
    """Numbers D of an embedding."""

    def crop(self, image: Image, landmarks: NDArray[np.float32]) -> Image:
        """The aligned crop (S, S, 3) of the face with these landmarks (5, 2) in a BGR image (H, W, 3)."""

    def embed(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Embeddings (N, D) of crops, of any length."""


class ArcFaceRecogniser:
    """A recogniser in insightface's form, of any width, side and name of its input, run by insightface.

    Crops are aligned as ArcFace's are. The batch axis may be free or fixed.
    """

    def __init__(self, model: Any) -> None:
        model.prepare(0)
        self.model = model
        self._side = int(model.input_size[0])
        fixed = model.input_shape[0]
        self._batch = fixed if isinstance(fixed, int) and fixed > 0 else None
        self.width = self.embed([np.zeros((self._side, self._side, 3), np.uint8)]).shape[1]

    def crop(self, image: Image, landmarks: NDArray[np.float32]) -> Image:
        from insightface.utils.face_align import estimate_norm, norm_crop

        with warnings.catch_warnings():
            # insightface 2.1 calls a method that scikit-image has deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            if self._side % _ALIGNED == 0 or self._side % 128 == 0:
                return norm_crop(image, landmark=landmarks, image_size=self._side)
            # Insightface has no template of another side: take the one of 112 pixels, larger.
            to_crop = estimate_norm(landmarks, _ALIGNED) * (self._side / _ALIGNED)
            return cv2.warpAffine(image, to_crop, (self._side, self._side), borderValue=0.0)

    def embed(self, crops: Sequence[Image], batch: int = 64) -> NDArray[np.float32]:
        step = self._batch or batch
        parts = []
        for first in range(0, len(crops), step):
            part = list(crops[first : first + step])
            filled = part + part[-1:] * ((self._batch or 0) - len(part))
            parts.append(self.model.get_feat(filled)[: len(part)])
        return np.concatenate(parts).reshape(len(crops), -1)


class SFaceRecogniser:
    """OpenCV's recogniser, cropped and run by OpenCV."""

    def __init__(self, file: Path) -> None:
        self._net = cv2.FaceRecognizerSF.create(str(file), "")
        self.width = self.embed([np.zeros((_ALIGNED, _ALIGNED, 3), np.uint8)]).shape[1]

    def crop(self, image: Image, landmarks: NDArray[np.float32]) -> Image:
        # A row of FaceDetectorYN: the box and the score are not read.
        row = np.concatenate([np.zeros(4), landmarks.reshape(10), np.ones(1)]).astype(np.float32)
        return self._net.alignCrop(image, row[None])

    def embed(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        # OpenCV gives the network's own memory, which the next crop overwrites.
        return np.concatenate([self._net.feature(crop).reshape(1, -1).copy() for crop in crops])

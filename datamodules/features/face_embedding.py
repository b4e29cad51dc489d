"""The embedding of a face by a recogniser, which IP-Adapter FaceID reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from datamodules.face_crops import Portrait, landmarks_of
from datamodules.features.faces import AlignedFace
from networks.face_analysis import FacePack


@dataclass(frozen=True, kw_only=True)
class FaceEmbedding(AlignedFace):
    """(D,), of length 1: the embedding of the face, cropped by its landmarks as the recogniser's training was.

    Args:
        recogniser: Face pack whose recogniser gives it.
    """

    recogniser: str

    @property
    def weights(self) -> str:
        return self._recogniser.fingerprint

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._recogniser.recogniser.width,)

    def encode(self, batch: Sequence[Portrait]) -> Tensor:
        landmarks = [landmarks_of(face, self._faces) for face in batch]
        return torch.from_numpy(self._recogniser.embed_at([face.pixels for face in batch], landmarks))

    @cached_property
    def _recogniser(self) -> FacePack:
        return FacePack(self.recogniser, self.det_size)

"""Features of aligned faces: W+ codes, and the base model's latents of the same crops."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import LikenessError
from contracts.settings import DETECTION_SIDES, detection_sides
from datamodules.face_crops import Portrait, aligned
from datamodules.features.base import Feature
from datamodules.features.crops import FACE
from datamodules.index import Photo
from networks.backbone import load_backbone
from networks.face_analysis import FacePack
from networks.wplus import load_wplus, wplus_fingerprint


@dataclass(frozen=True, kw_only=True)
class AlignedFace(Feature):
    """Base of the features of aligned faces.

    Args:
        detector: Face pack that finds the face in a photo whose landmarks are not known; ``None`` where all are.
        det_size: Sides in pixels at which it looks for faces.
    """

    detector: str | None
    det_size: int | Sequence[int] = DETECTION_SIDES
    crop = FACE
    background: ClassVar[bool] = True
    """Whether the crop keeps the background; it is white otherwise."""

    def __post_init__(self) -> None:
        detection_sides(self.det_size, f"data.features.{self.name}.det_size")

    @property
    def fingerprint(self) -> str:
        found_by = "known landmarks" if self._faces is None else self._faces.key
        return f"{self.weights}/{self.name}/{self.crop.version}/{found_by}"

    @cached_property
    def _faces(self) -> FacePack | None:
        return None if self.detector is None else FacePack(self.detector, self.det_size)

    @property
    @abstractmethod
    def weights(self) -> str:
        """Fingerprint of the encoder's weights."""

    def align(self, batch: Sequence[Portrait], side: int) -> NDArray[np.uint8]:
        """Aligned crops (B, side, side, 3)."""
        return np.stack([aligned(face, side, self._faces, self.background) for face in batch])

    def check_photo(self, photo: Photo) -> None:
        """Raise ``LikenessError`` where nobody knows where the face is."""
        if photo.landmarks is None and self.detector is None:
            raise LikenessError(
                f"the feature {self.name} aligns faces by their landmarks, which are null for {photo.called}: give a "
                f"face pack that finds them (data.features.{self.name}.detector), fill the column, or leave the photo "
                "out"
            )

    def check(self, crop: Portrait) -> None:
        """Raise ``LikenessError`` where the photo does not show exactly one face."""
        aligned(crop, len(crop.pixels), self._faces, background=True)


@dataclass(frozen=True, kw_only=True)
class WPlus(AlignedFace):
    """(rows, width): the W+ code of the aligned face without its background.

    Args:
        encoder: Folder, or e4e checkpoint, of the W+ encoder.
    """

    encoder: str
    background = False

    @property
    def weights(self) -> str:
        return wplus_fingerprint(self.encoder)

    @property
    def shape(self) -> tuple[int, ...]:
        pair = self.context.network(load_wplus, self.encoder)
        return pair.rows, pair.width

    def encode(self, batch: Sequence[Portrait]) -> Tensor:
        pair = self.context.network(load_wplus, self.encoder)
        return pair.encode(self.align(batch, pair.encoder.input_size))


@dataclass(frozen=True, kw_only=True)
class WPlusBackground(WPlus):
    """(rows, width): the W+ code of the aligned face with its background."""

    background = True


@dataclass(frozen=True, kw_only=True)
class FaceMoments(AlignedFace):
    """(2C, h, w): posterior of the aligned face with its background, unscaled."""

    @property
    def weights(self) -> str:
        return self.context.parts_fingerprint("vae")

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}/{self.context.resolution}"

    @property
    def shape(self) -> tuple[int, ...]:
        channels, height, width = self.context.latent_shape
        return 2 * channels, height, width

    def encode(self, batch: Sequence[Portrait]) -> Tensor:
        pixels = torch.from_numpy(self.align(batch, self.context.resolution)).to(self.context.device)
        return self.context.network(load_backbone, self.context.backbone).encode_moments(pixels)

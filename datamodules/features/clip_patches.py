"""The patches of an image as CLIP sees them, which IP-Adapter Plus reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.features.base import Feature
from datamodules.features.crops import SQUARE
from networks.clip_image import ClipImageEncoder, clip_image_fingerprint, load_clip_image


@dataclass(frozen=True)
class ClipPatches(Feature):
    """(T, D): the hidden states before the last layer, the class token's first.

    A row is large: 257 x 1280 numbers of ViT-H/14, 1.3 MB of an image.

    Args:
        encoder: Folder or hub name of the CLIP, or of its vision tower.
    """

    encoder: str
    crop = SQUARE

    @property
    def fingerprint(self) -> str:
        weights = clip_image_fingerprint(self.encoder)
        return f"{weights}/{self.name}/{self.context.resolution}/{self.crop.version}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self._network.patches_shape

    def encode(self, batch: Sequence[NDArray[np.uint8]]) -> Tensor:
        return self._network.patches(np.stack(batch))

    def nothing(self) -> Tensor:
        """The hidden states of pixels that are 0 after normalisation, the mean colour."""
        return self._network.blank_patches().cpu()

    @property
    def _network(self) -> ClipImageEncoder:
        return self.context.network(load_clip_image, self.encoder)

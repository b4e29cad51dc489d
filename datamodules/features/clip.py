"""Features of the CLIP image encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.features.base import Feature
from datamodules.features.crops import SQUARE
from networks.clip_image import clip_image_fingerprint, load_clip_image


@dataclass(frozen=True)
class PooledClip(Feature):
    """(D,): the pooled image feature, after the final layer norm and before the projection.

    Args:
        encoder: Folder or hub name of the CLIP.
    """

    encoder: str
    crop = SQUARE

    @property
    def fingerprint(self) -> str:
        weights = clip_image_fingerprint(self.encoder)
        return f"{weights}/{self.name}/{self.context.resolution}/{self.crop.version}"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.context.network(load_clip_image, self.encoder).width,)

    def encode(self, batch: Sequence[NDArray[np.uint8]]) -> Tensor:
        return self.context.network(load_clip_image, self.encoder).encode(np.stack(batch))

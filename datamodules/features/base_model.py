"""Features of the base model's own parts: the VAE's posterior, masks at the latent's size, the text's states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import LikenessError
from contracts.text import Text
from datamodules.features.base import Feature
from datamodules.features.crops import CAPTION, EXTENT, HEAD_MASK, SQUARE, SQUARE_MASK, Crop
from datamodules.image_io import square_corner
from networks.backbone import load_backbone, text_fingerprint


@dataclass(frozen=True)
class Moments(Feature):
    """(2C, h, w): mean and log-variance of the VAE's posterior of the image, unscaled."""

    crop = SQUARE

    @property
    def fingerprint(self) -> str:
        return f"{self.context.parts_fingerprint('vae')}/{self.name}/{self.context.resolution}/{self.crop.version}"

    @property
    def shape(self) -> tuple[int, ...]:
        channels, height, width = self.context.latent_shape
        return 2 * channels, height, width

    def encode(self, batch: Sequence[NDArray[np.uint8]]) -> Tensor:
        pixels = torch.from_numpy(np.stack(batch)).to(self.context.device)
        return self.context.network(load_backbone, self.context.backbone).encode_moments(pixels)


@dataclass(frozen=True)
class TextStates(Feature):
    """(L, D): the states of the frozen text encoders, side by side."""

    crop = CAPTION

    @property
    def fingerprint(self) -> str:
        return f"{text_fingerprint(self.context.backbone)}/{self.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.encode([""]).shape[1:])

    def encode(self, batch: Sequence[str]) -> Tensor:
        return self._read(batch).states

    def _read(self, batch: Sequence[str]) -> Text:
        """The texts, whose states and pooled text come of one run of the encoders."""
        network = self.context.network(load_backbone, self.context.backbone)
        return self.context.shared(("texts", *batch), lambda: network.encode_text(list(batch)))


@dataclass(frozen=True)
class PooledText(TextStates):
    """(P,): the pooled text of a base model that reads one."""

    def encode(self, batch: Sequence[str]) -> Tensor:
        pooled = self._read(batch).pooled
        if pooled is None:
            raise LikenessError(f"model.backbone: {self.context.backbone} has no pooled text")
        return pooled


@dataclass(frozen=True)
class PhotoSizes(Feature):
    """(6,): the sizes of :class:`contracts.text.Text`, of a photo whose central square is trained on."""

    crop = EXTENT

    @property
    def fingerprint(self) -> str:
        return f"{self.name}/{self.context.resolution}/{self.crop.version}"

    @property
    def shape(self) -> tuple[int, ...]:
        return (6,)

    def encode(self, batch: Sequence[tuple[int, int]]) -> Tensor:
        side = self.context.resolution
        return torch.tensor([[h, w, *square_corner(h, w, side), side, side] for h, w in batch], dtype=torch.float32)


@dataclass(frozen=True)
class PersonMask(Feature):
    """(1, h, w) in 0..1: the person, at the size of a latent."""

    crop: ClassVar[Crop] = SQUARE_MASK

    @property
    def fingerprint(self) -> str:
        _, height, width = self.shape
        return f"{self.name}/{self.context.resolution}/{height}x{width}/{self.crop.version}"

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, *self.context.latent_shape[1:]

    def encode(self, batch: Sequence[NDArray[np.uint8]]) -> Tensor:
        pixels = torch.from_numpy(np.stack(batch)).to(self.context.device)
        return F.interpolate(pixels[:, None].float() / 255, self.context.latent_shape[1:], mode="area")


@dataclass(frozen=True)
class Head(PersonMask):
    """(1, h, w) in 0..1: the head, soft, at the size of a latent."""

    crop = HEAD_MASK

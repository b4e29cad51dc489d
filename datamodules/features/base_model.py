"""Features of the base model's own parts: the VAE's posterior, masks at the latent's size, the text's states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from datamodules.features.base import Feature
from datamodules.features.crops import CAPTION, HEAD_MASK, SQUARE, SQUARE_MASK, Crop
from networks.backbone import load_backbone


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
    """(L, D): the states of the frozen text encoder."""

    crop = CAPTION

    @property
    def fingerprint(self) -> str:
        return f"{self.context.parts_fingerprint('text_encoder', 'tokenizer')}/{self.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.encode([""]).shape[1:])

    def encode(self, batch: Sequence[str]) -> Tensor:
        return self.context.network(load_backbone, self.context.backbone).encode_text(list(batch))


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

"""What the IP-Adapters share: an image is a prompt of its own, read by decoupled cross-attention."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.batch import PairBatch, RequestBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.text import Text
from lightning_modules.base import PersonalisationModule


class ImagePrompt(PersonalisationModule[PairBatch]):
    """Base of the IP-Adapters. Each names the one feature in ``needs``, gives it its ``encoder``'s name for messages,
    and sets ``project``, ``attention`` and ``scale``.

    It is trained on single images: the image that is generated is its own prompt. Two subjects are two images of one
    adapter, whose tokens lie side by side, as several images do in stock diffusers.
    """

    subjects_per_image = 2
    trains_in_parts = False
    encoder: ClassVar[str]
    """What gives the feature, in words."""
    project: nn.Module
    """From the feature of B images to identity tokens (B, N, token width)."""
    attention: nn.ModuleDict
    """Keys and values of the identity tokens by layer."""
    scale: float

    def feature_shape(self) -> dict[str, int]:
        """The shape that the feature must have, by the argument that says each number."""
        raise NotImplementedError

    def nobody(self, values: Tensor) -> Tensor:
        """The feature that stands for no image, in the shape of ``values`` (B, ...): here zeros."""
        return torch.zeros_like(values)

    def check_features(self, shape_of: Callable[[str], tuple[int, ...]]) -> None:
        expected, found = self.feature_shape(), shape_of(self.needs[0])
        if tuple(expected.values()) != found:
            said = " and ".join(f"model.{name} is {size}" for name, size in expected.items())
            numbers = " x ".join(map(str, found))
            raise LikenessError(f"{said}, the {self.encoder} gives {numbers} numbers of an image")

    def adapter(self) -> nn.ModuleDict:
        return nn.ModuleDict({"project": self.project, "attention": self.attention})

    def train_conditioning(self, batch: PairBatch) -> Conditioning:
        values = batch.second_view[self.needs[0]]
        dropped = batch.drop_identity.view(-1, *[1] * (values.ndim - 1))
        return Conditioning.from_text(
            batch.text_states, identity=self.project(torch.where(dropped, self.nobody(values), values))
        )

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        return self._conditioning(batch.text_states, batch.reference[self.needs[0]])

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The empty text and the feature of no image."""
        values = batch.reference[self.needs[0]]
        empty = self.backbone.encode_text([""]).expand(len(values))
        return self._conditioning(empty, self.nobody(values))

    def _conditioning(self, text: Text, values: Tensor) -> Conditioning:
        return Conditioning.from_text(text, identity=self.project(values), scale=self.scale)

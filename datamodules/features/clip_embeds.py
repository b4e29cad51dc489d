"""The projected image embedding of CLIP, which published IP-Adapter files read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from contracts.errors import LikenessError
from datamodules.features.base import Feature
from datamodules.features.crops import SQUARE
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.pretrained import UNREADABLE, first_line, load_model


@dataclass(frozen=True)
class ClipEmbeds(Feature):
    """(D,): the image embedding after the projection to the space of texts (``image_embeds`` in transformers).

    Args:
        encoder: Folder or hub name of the CLIP, or of its vision tower with projection.
    """

    encoder: str
    crop = SQUARE

    @property
    def fingerprint(self) -> str:
        weights = folder_fingerprint(resolve_source(self.encoder))
        return f"{weights}/{self.name}/{self.context.resolution}/{self.crop.version}"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.context.network(_load, self.encoder).vision.config.projection_dim,)

    def encode(self, batch: Sequence[NDArray[np.uint8]]) -> Tensor:
        return self.context.network(_load, self.encoder)(np.stack(batch))


class _ProjectedClip(nn.Module):
    """The vision tower with its projection, and its own preprocessing in PIL."""

    def __init__(self, vision: CLIPVisionModelWithProjection, processor: CLIPImageProcessorPil) -> None:
        super().__init__()
        self.vision = vision.requires_grad_(False).eval()
        self.processor = processor

    @torch.no_grad()
    def forward(self, images: NDArray[np.uint8]) -> Tensor:
        """RGB images (B, H, W, 3) to embeddings (B, D)."""
        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return self.vision(pixel_values=pixels.to(self.vision.device)).image_embeds


def _load(source: str) -> _ProjectedClip:
    folder = resolve_source(source)
    try:
        vision = load_model(CLIPVisionModelWithProjection, folder)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise LikenessError(f"CLIP image encoder: cannot load {source!r}: {first_line(error)}") from error
    return _ProjectedClip(vision, processor)

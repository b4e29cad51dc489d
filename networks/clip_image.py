"""The frozen CLIP image encoder that reference features come from."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionModel

from contracts.errors import LikenessError
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.pretrained import UNREADABLE, first_line, load_model


class ClipImageEncoder(nn.Module):
    """Pooled CLIP image features (after the final layer norm, before the projection to the text space)."""

    def __init__(self, vision: CLIPVisionModel, processor: CLIPImageProcessorPil, fingerprint: str) -> None:
        super().__init__()
        self.vision = vision
        self.processor = processor
        self.fingerprint = fingerprint
        self.requires_grad_(False).eval()

    @property
    def width(self) -> int:
        """Size D of a feature."""
        return self.vision.config.hidden_size

    @torch.no_grad()
    def encode(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) uint8 to (B, D); preprocessing is the model's own, in PIL."""
        pixels = self.processor(images=list(np.asarray(images)), return_tensors="pt")["pixel_values"]
        return self.vision(pixel_values=pixels.to(self.vision.device)).pooler_output

    @property
    def patches_shape(self) -> tuple[int, int]:
        """(T, D) of :meth:`patches`: the class token and the cells of the grid."""
        config = self.vision.config
        return 1 + (config.image_size // config.patch_size) ** 2, config.hidden_size

    def patches(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) uint8 to the hidden states (B, T, D) before the last layer, the class token's first."""
        return self._hidden(self.processor(images=list(np.asarray(images)), return_tensors="pt")["pixel_values"])

    def blank_patches(self) -> Tensor:
        """(T, D): :meth:`patches` of an image of zeros after normalisation."""
        side = self.vision.config.image_size
        return self._hidden(torch.zeros(1, 3, side, side))[0]

    @torch.no_grad()
    def _hidden(self, pixels: Tensor) -> Tensor:
        output = self.vision(pixel_values=pixels.to(self.vision.device), output_hidden_states=True)
        return output.hidden_states[-2]


def load_clip_image(source: str, revision: str | None = None) -> ClipImageEncoder:
    """The vision tower of a ``CLIPModel`` folder or hub name, in float32.

    Raises :class:`LikenessError` when it cannot be loaded.
    """
    folder = resolve_source(source, revision)
    try:
        vision = load_model(CLIPVisionModel, folder)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise LikenessError(f"CLIP image encoder: cannot load {source!r}: {first_line(error)}") from error
    return ClipImageEncoder(vision, processor, folder_fingerprint(folder))


def clip_image_fingerprint(source: str, revision: str | None = None) -> str:
    """The fingerprint of an image encoder without loading its weights."""
    return folder_fingerprint(resolve_source(source, revision))

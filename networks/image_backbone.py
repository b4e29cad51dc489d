"""Any frozen image network in the form of transformers, DINO or DINOv2 for instance, as a judge of likeness."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel

from contracts.errors import LikenessError
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.precision import full_precision
from networks.pretrained import UNREADABLE, first_line, quiet_loading


class ImageBackbone(nn.Module):
    """Unit features of images: the class token of the last layer, in fp32, after the model's own PIL pipeline."""

    def __init__(self, source: str) -> None:
        """Load from ``source``, a folder or hub name; raises ``LikenessError`` where it is missing or incomplete."""
        super().__init__()
        folder = resolve_source(source)
        try:
            with quiet_loading():
                self.model, found = AutoModel.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
                self.processor = AutoImageProcessor.from_pretrained(
                    folder, backend="pil", local_files_only=True, trust_remote_code=False
                )
        except UNREADABLE as error:
            raise LikenessError(f"judges.image_backbone: cannot load {source}: {first_line(error)}") from error
        # Published DINO weights have no pooler, and the class token does not need one.
        missing = [key for key in found["missing_keys"] if not key.startswith("pooler.")]
        if missing:
            raise LikenessError(f"judges.image_backbone: the weights in {source} lack {min(missing)}")
        self.requires_grad_(False).eval()
        self.fingerprint = folder_fingerprint(folder)

    @torch.inference_mode()
    @full_precision()
    def image_features(self, images: NDArray[np.uint8]) -> Tensor:
        """Unit features (B, D) of RGB uint8 images (B, H, W, 3)."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"expected uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")
        pixels = self.processor(list(images), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        states = self.model(pixel_values=pixels.to(self.model.device)).last_hidden_state
        return F.normalize(states[:, 0].float(), dim=-1)

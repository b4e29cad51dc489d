"""Any frozen image network in the form of transformers, DINO or a ResNet for instance, as a judge of likeness."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PretrainedConfig, PreTrainedModel

from contracts.errors import LikenessError
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.precision import full_precision
from networks.pretrained import UNREADABLE, first_line, quiet_loading

Pooling = Literal["cls", "mean", "projected", "pooler"]
POOLINGS: dict[Pooling, str] = {
    "cls": "class token",
    "mean": "mean of the patches, as its configuration says",
    "projected": "its projected image embedding",
    "pooler": "its own pooled output",
}
"""How one vector is made of what a model says of an image, in words."""


class ImageBackbone(nn.Module):
    """Unit features of images, pooled the way the model says (:func:`pooling_of`), in fp32, after its PIL pipeline."""

    def __init__(self, source: str) -> None:
        """Load from ``source``, a folder or hub name.

        Raises:
            LikenessError: it is missing or incomplete, or the model gives no vector of an image.
        """
        super().__init__()
        folder = resolve_source(source)
        try:
            with quiet_loading():
                kind = _class_of(_config(folder))
                self.model, found = kind.from_pretrained(
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
        self.pooling = _pooling(self.model)
        # Published DINO weights have no pooler, and the class token does not need one.
        missing = [key for key in found["missing_keys"] if self.pooling != "cls" or not key.startswith("pooler.")]
        if missing:
            raise LikenessError(f"judges.image_backbone: the weights in {source} lack {min(missing)}")
        self.requires_grad_(False).eval()
        self.fingerprint = folder_fingerprint(folder)
        self._try(source)

    @torch.inference_mode()
    @full_precision()
    def image_features(self, images: NDArray[np.uint8]) -> Tensor:
        """Unit features (B, D) of RGB uint8 images (B, H, W, 3)."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"expected uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")
        pixels = self.processor(list(images), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        return F.normalize(self._pooled(pixels.to(self.model.device)).float(), dim=-1)

    def _pooled(self, pixels: Tensor) -> Tensor:
        if self.pooling == "projected" and hasattr(self.model, "get_image_features"):
            return self.model.get_image_features(pixel_values=pixels).pooler_output
        output = self.model(pixel_values=pixels)
        if self.pooling == "projected":
            return output.image_embeds
        pooled = getattr(output, "pooler_output", None)
        if self.pooling == "cls":
            pooled = output.last_hidden_state[:, 0]
        elif self.pooling == "mean" and pooled is None:
            pooled = output.last_hidden_state[:, 1:].mean(dim=1)
        if pooled is None:
            raise ValueError("it has no class token and no pooled output")
        # Convolutional networks keep two axes of length 1.
        if pooled.flatten(1).shape[1] != pooled.shape[1]:
            raise ValueError(f"it gives {tuple(pooled.shape[1:])} numbers of an image, no vector")
        return pooled.flatten(1)

    def _try(self, source: str) -> None:
        """A model of another kind shows at the first image. One that hides patches at random is no judge either."""
        noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
        try:
            first, second = self.image_features(noise), self.image_features(noise)
        except Exception as error:
            # Models fail in ways of their own where they are not given what they read beside the pixels.
            raise LikenessError(
                f"judges.image_backbone: {source} cannot judge an image: {first_line(error)}"
            ) from error
        if not torch.equal(first, second):
            raise LikenessError(
                f"judges.image_backbone: {source} gives another feature of the same image each time: take another"
            )


def pooling_of(folder: Path) -> Pooling:
    """How the model of a folder is pooled, from its configuration alone.

    An image embedding where the model is trained to compare such; the mean of the patches where the configuration says
    so (BEiT); the class token where there is one; else the model's own pooled output, as convolutional networks have.

    Raises:
        LikenessError: the folder holds no model of transformers.
    """
    try:
        with quiet_loading(), torch.device("meta"):
            config = _config(folder)
            kind = _class_of(config)
            model = kind.from_config(config) if kind is AutoModel else kind(config)
    except UNREADABLE as error:
        raise LikenessError(f"judges.image_backbone: cannot load {folder}: {first_line(error)}") from error
    return _pooling(model)


def _config(folder: Path) -> PretrainedConfig:
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _class_of(config: PretrainedConfig) -> type[AutoModel] | type[PreTrainedModel]:
    """The class of the model: ``AutoModel`` would leave the projection of a vision tower out."""
    name = (config.architectures or [""])[0]
    return getattr(transformers, name) if name.endswith("VisionModelWithProjection") else AutoModel


def _pooling(model: nn.Module) -> Pooling:
    if hasattr(model, "get_image_features") or type(model).__name__.endswith("WithProjection"):
        return "projected"
    if getattr(model.config, "use_mean_pooling", False):
        return "mean"
    return "cls" if any(name.endswith("cls_token") for name, _ in model.named_parameters()) else "pooler"

"""The frozen latent diffusion model that every method adapts."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTokenizer

from contracts.errors import LikenessError
from contracts.text import Text
from networks.backbone_kind import check_kind, is_silent, reads_sizes
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.pretrained import UNREADABLE, first_line, load_model
from networks.text_encoders import TextEncoders, load_text_encoders, text_parts

DECODED_CELLS = 4 * 64**2
"""Cells of latents that are decoded at once: four images of 512 pixels."""


class Backbone(nn.Module):
    """VAE, text encoders, UNet and noise schedule of one Stable-Diffusion-shaped model, frozen.

    ``fingerprint`` names the weights; adapters and caches carry it.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text: TextEncoders,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        fingerprint: str,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.text = text
        self.unet = unet
        self.scheduler = scheduler
        self.fingerprint = fingerprint
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Keep evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents of one image."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @property
    def resolution(self) -> int:
        """Side of an image in pixels."""
        return self.latent_shape[1] * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def tokenizer(self) -> CLIPTokenizer:
        """How the text encoders cut a text into tokens."""
        return self.text.tokenizer

    def encode_text(self, prompts: list[str]) -> Text:
        """The prompts as the stock pipeline encodes them, for images of the base model's size; longer ones are cut.

        The empty text is zeros where the base model was trained so.
        """
        return self.text.encode(prompts).of_whole_images(self.resolution)

    @torch.no_grad()
    def encode_moments(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) uint8 to mean and log-variance of the posterior, (B, 2C, h, w), unscaled."""
        pixels = torch.as_tensor(images).to(self.vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with self._enough_range():
            return self.vae.encode(pixels).latent_dist.parameters

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) as the UNet knows them to images (B, H, W, 3) uint8; of large ones a few at a time, as
        the autoencoder takes many times the memory of its images."""
        at_once = max(1, DECODED_CELLS // latents[0, 0].numel())
        return torch.cat([self._decode(few) for few in latents.split(at_once)])

    def _decode(self, latents: Tensor) -> Tensor:
        latents = (latents.float() if self._needs_range() else latents) / self.vae.config.scaling_factor
        with self._enough_range():
            pixels = self.vae.decode(latents).sample
        return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)

    def _needs_range(self) -> bool:
        """Whether float16 is asked for and the autoencoder says that it overflows in it, as SDXL's does: its images
        would be NaN."""
        kind = self.vae.device.type
        narrow = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
        return narrow and self.vae.config.force_upcast

    def _enough_range(self) -> AbstractContextManager:
        return torch.autocast(self.vae.device.type, enabled=False) if self._needs_range() else nullcontext()

    def posterior_mean(self, moments: Tensor) -> Tensor:
        """The mean of the posterior, scaled: what the autoencoder makes of an image without any noise."""
        return moments.chunk(2, dim=1)[0] * self.vae.config.scaling_factor

    def latents_from_moments(self, moments: Tensor, noise: Tensor) -> Tensor:
        """A sample of the posterior, scaled; ``noise`` is standard normal of the latents' shape."""
        mean, log_variance = moments.chunk(2, dim=1)
        std = (0.5 * log_variance.clamp(-30.0, 20.0)).exp()
        return (mean + std * noise) * self.vae.config.scaling_factor


def load_backbone(source: str, revision: str | None = None) -> Backbone:
    """Load a ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline`` folder or hub name in float32, safetensors
    only.

    Raises :class:`LikenessError` when a part is missing or unreadable, or of a kind that does not work.
    """
    folder = _folder(source, revision)
    try:
        return Backbone(
            vae=load_model(AutoencoderKL, folder, "vae"),
            text=load_text_encoders(folder, reads_sizes(folder), is_silent(folder)),
            unet=load_model(UNet2DConditionModel, folder, "unet"),
            scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True),
            fingerprint=folder_fingerprint(folder),
        )
    except UNREADABLE as error:
        raise LikenessError(f"model.backbone: cannot load {source!r}: {first_line(error)}") from error


def lay_out_for(backbone: Backbone, device: torch.device) -> None:
    """Lay the weights of convolutions out as a device computes fastest: on NVIDIA GPUs with the channels last, in which
    tensor cores read them. They are the same weights under the same names."""
    if device.type == "cuda":
        backbone.unet.to(memory_format=torch.channels_last)
        backbone.vae.to(memory_format=torch.channels_last)


def _folder(source: str, revision: str | None = None) -> Path:
    """Where the base model lies, if it is of a kind that works."""
    folder = resolve_source(source, revision, pipeline=True)
    try:
        check_kind(folder)
    except UNREADABLE as error:
        raise LikenessError(f"model.backbone: cannot load {source!r}: {first_line(error)}") from error
    return folder


def backbone_fingerprint(source: str, revision: str | None = None) -> str:
    """The fingerprint of a backbone without loading its weights."""
    return folder_fingerprint(resolve_source(source, revision, pipeline=True))


def reads_added(source: str) -> bool:
    """Whether the base model reads pooled text and sizes besides text states, from the configuration alone."""
    return reads_sizes(_folder(source))


def text_fingerprint(source: str) -> str:
    """Names the weights of the text side, and how it takes an empty text, without loading them."""
    folder = _folder(source)
    two = reads_sizes(folder)
    parts = [part for _, *names in text_parts(two) for part in names]
    silent = ["silent"] if is_silent(folder) else []
    return "/".join([*(folder_fingerprint(folder / part) for part in parts), *silent])


def truncated_tokens(tokenizer: CLIPTokenizer, text: str) -> int:
    """How many tokens of ``text`` do not fit, the start and end token included."""
    return max(0, len(tokenizer(text, truncation=False, verbose=False).input_ids) - tokenizer.model_max_length)


def empty_backbone(folder: Path) -> Backbone:
    """The shapes of a backbone without weights or memory, on the meta device, from its configuration files."""
    parts, silent = text_parts(reads_sizes(folder)), is_silent(folder)
    with torch.device("meta"):
        return Backbone(
            vae=AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
            text=TextEncoders(
                [kind(kind.config_class.from_pretrained(folder / name)) for kind, name, _ in parts], [], silent
            ),
            unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            scheduler=DDIMScheduler.from_config(DDIMScheduler.load_config(folder / "scheduler")),
            fingerprint="meta",
        )


def backbone_latent_shape(source: str, revision: str | None = None) -> tuple[int, int, int]:
    """(C, h, w) of the latents of one image, from the configuration alone."""
    settings = UNet2DConditionModel.load_config(_folder(source, revision) / "unet")
    return settings["in_channels"], settings["sample_size"], settings["sample_size"]


def backbone_resolution(source: str) -> int:
    """Side in pixels of the images that a backbone generates, from the configuration alone."""
    vae = AutoencoderKL.load_config(_folder(source) / "vae")
    return backbone_latent_shape(source)[1] * 2 ** (len(vae["block_out_channels"]) - 1)

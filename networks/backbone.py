"""The frozen latent diffusion model that every method adapts."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from contracts.errors import LikenessError
from networks.backbone_kind import check_kind
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.pretrained import UNREADABLE, first_line, load_model, load_tokenizer

DECODED_CELLS = 4 * 64**2
"""Cells of latents that are decoded at once: four images of 512 pixels."""


class Backbone(nn.Module):
    """VAE, text encoder, tokenizer, UNet and noise schedule of one Stable-Diffusion-shaped model, frozen.

    ``fingerprint`` names the weights; adapters and caches carry it.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        fingerprint: str,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.text_encoder = text_encoder
        self.unet = unet
        self.tokenizer = tokenizer
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

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> Tensor:
        """Text states (B, L, D) of the last layer, as ``StableDiffusionPipeline`` uses them; longer prompts are cut."""
        ids = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.text_encoder(ids.to(self.text_encoder.device)).last_hidden_state

    @torch.no_grad()
    def encode_moments(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) uint8 to mean and log-variance of the posterior, (B, 2C, h, w), unscaled."""
        pixels = torch.as_tensor(images).to(self.vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.vae.encode(pixels).latent_dist.parameters

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) as the UNet knows them to images (B, H, W, 3) uint8; of large ones a few at a time, as
        the autoencoder takes many times the memory of its images."""
        at_once = max(1, DECODED_CELLS // latents[0, 0].numel())
        return torch.cat([self._decode(few) for few in latents.split(at_once)])

    def _decode(self, latents: Tensor) -> Tensor:
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)

    def posterior_mean(self, moments: Tensor) -> Tensor:
        """The mean of the posterior, scaled: what the autoencoder makes of an image without any noise."""
        return moments.chunk(2, dim=1)[0] * self.vae.config.scaling_factor

    def latents_from_moments(self, moments: Tensor, noise: Tensor) -> Tensor:
        """A sample of the posterior, scaled; ``noise`` is standard normal of the latents' shape."""
        mean, log_variance = moments.chunk(2, dim=1)
        std = (0.5 * log_variance.clamp(-30.0, 20.0)).exp()
        return (mean + std * noise) * self.vae.config.scaling_factor


def load_backbone(source: str, revision: str | None = None) -> Backbone:
    """Load a ``StableDiffusionPipeline`` folder or hub name in float32, safetensors only.

    Raises :class:`LikenessError` when a part is missing or unreadable, or of a kind that does not work.
    """
    folder = _folder(source, revision)
    try:
        return Backbone(
            vae=load_model(AutoencoderKL, folder, "vae"),
            text_encoder=load_model(CLIPTextModel, folder, "text_encoder"),
            tokenizer=load_tokenizer(folder, "tokenizer"),
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


def truncated_tokens(tokenizer: CLIPTokenizer, text: str) -> int:
    """How many tokens of ``text`` do not fit, the start and end token included."""
    return max(0, len(tokenizer(text, truncation=False, verbose=False).input_ids) - tokenizer.model_max_length)


def empty_backbone(folder: Path) -> Backbone:
    """The shapes of a backbone without weights or memory, on the meta device, from its configuration files."""
    with torch.device("meta"):
        return Backbone(
            vae=AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
            text_encoder=CLIPTextModel(CLIPTextModel.config_class.from_pretrained(folder / "text_encoder")),
            tokenizer=None,
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

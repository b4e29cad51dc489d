"""Base models of published size with random weights, and thin ones of the same layers: nothing is downloaded."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModel

from networks.backbone import Backbone
from networks.pretrained import load_tokenizer
from networks.text_encoders import TextEncoders
from pocket.models.paths import BASE


@dataclass(frozen=True)
class Shape:
    """Sizes of a base model's parts, as the libraries name them, and of its images in pixels."""

    name: str
    resolution: int
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: tuple[dict[str, Any], ...]
    """One for each text encoder."""
    image: dict[str, Any]
    """The image encoder of SpotDiff."""


_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_CLIP_H = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
_SIZES = 6 * 256
"""Channels in which SDXL reads six sizes, beside the pooled text's."""
SD15 = Shape(
    name="sd15",
    resolution=512,
    unet={"sample_size": 64, "cross_attention_dim": 768, "block_out_channels": (320, 640, 1280, 1280)},
    vae=_VAE,
    text=(_CLIP_L,),
    image={**_CLIP_H, "patch_size": 14},
)
SDXL = Shape(
    name="sdxl",
    resolution=1024,
    unet={
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + _SIZES,
    },
    vae={**_VAE, "scaling_factor": 0.13025},
    text=(_CLIP_L, {**_CLIP_G, "projection_dim": 1280, "hidden_act": "gelu"}),
    image={**_CLIP_H, "patch_size": 14},
)
SHAPES = {"sd15": SD15, "sdxl": SDXL}
TEXT_LENGTH, VOCABULARY = 77, 49408


def thin(shape: Shape) -> Shape:
    """The same layers with few channels on few pixels: what is counted is counted the same, in seconds."""
    small = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    unet = {
        **shape.unet,
        "sample_size": 8,
        "cross_attention_dim": 64 * len(shape.text),
        "block_out_channels": tuple(channels // 16 for channels in shape.unet["block_out_channels"]),
        "norm_num_groups": 4,
    }
    if "projection_class_embeddings_input_dim" in unet:
        unet["projection_class_embeddings_input_dim"] = 64 + _SIZES
    return replace(
        shape,
        name=f"{shape.name}-thin",
        resolution=64,
        unet=unet,
        vae={**shape.vae, "block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4},
        text=tuple(
            {**one, **small} | ({"projection_dim": 64} if "projection_dim" in one else {}) for one in shape.text
        ),
        image={**shape.image, **small},
    )


def random_backbone(shape: Shape, device: torch.device) -> Backbone:
    """A base model of that shape, its weights as the libraries begin them."""
    tokenizer = load_tokenizer(BASE, "tokenizer")
    tokenizer.model_max_length = TEXT_LENGTH
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    configs = [CLIPTextConfig(vocab_size=VOCABULARY, **one, **ids) for one in shape.text]
    with device:
        encoders = [
            (CLIPTextModelWithProjection if "projection_dim" in one else CLIPTextModel)(config)
            for one, config in zip(shape.text, configs, strict=True)
        ]
        return Backbone(
            vae=AutoencoderKL(**shape.vae),
            text=TextEncoders(encoders, [tokenizer] * len(encoders)),
            unet=UNet2DConditionModel(**shape.unet),
            scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            fingerprint=f"random {shape.name}",
        )


def random_image_encoder(shape: Shape, device: torch.device) -> nn.Module:
    """The vision tower that gives SpotDiff its feature."""
    with device:
        return CLIPVisionModel(CLIPVisionConfig(**shape.image)).eval().requires_grad_(False)

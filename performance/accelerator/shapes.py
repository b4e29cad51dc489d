"""Base models of published size with random weights, and thin ones of the same layers: nothing is downloaded."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from networks.backbone import Backbone
from networks.pretrained import load_tokenizer
from pocket.models.paths import BASE


@dataclass(frozen=True)
class Shape:
    """Sizes of a base model's parts, and of the images that it generates, in pixels."""

    name: str
    resolution: int
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    image: dict[str, Any]
    """The image encoder of SpotDiff."""


SD15 = Shape(
    name="sd15",
    resolution=512,
    unet={"sample_size": 64, "cross_attention_dim": 768},  # the rest are the library's defaults
    vae={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "sample_size": 512,
    },
    text={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    image={"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    | {"patch_size": 14},
)
SHAPES = {"sd15": SD15}
TEXT_LENGTH, VOCABULARY = 77, 49408


def thin(shape: Shape) -> Shape:
    """The same layers with few channels on few pixels: what is counted is counted the same, in seconds."""
    widths = tuple(channels // 10 for channels in (320, 640, 1280, 1280))
    return replace(
        shape,
        name=f"{shape.name}-thin",
        resolution=128,
        unet={
            **shape.unet,
            "sample_size": 16,
            "cross_attention_dim": 64,
            "block_out_channels": widths,
            "norm_num_groups": 16,
        },
        vae={**shape.vae, "block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8, "sample_size": 128},
        text={**shape.text, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4},
        image={**shape.image, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4},
    )


def random_backbone(shape: Shape, device: torch.device) -> Backbone:
    """A base model of that shape, its weights as the libraries begin them."""
    tokenizer = load_tokenizer(BASE, "tokenizer")
    tokenizer.model_max_length = TEXT_LENGTH
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with device:
        return Backbone(
            vae=AutoencoderKL(**shape.vae),
            text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=VOCABULARY, **shape.text, **ids)),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(**shape.unet),
            scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            fingerprint=f"random {shape.name}",
        )


def random_image_encoder(shape: Shape, device: torch.device) -> nn.Module:
    """The vision tower that gives SpotDiff its feature."""
    with device:
        return CLIPVisionModel(CLIPVisionConfig(**shape.image)).eval().requires_grad_(False)

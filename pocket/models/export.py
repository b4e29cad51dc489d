"""Write trained pocket models in the folders that stock loaders read, with weights in float16."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from pocket.models.base_model import assemble
from pocket.models.clip import image_processor


def export_base(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel, folder: Path
) -> None:
    """A folder for ``StableDiffusionPipeline.from_pretrained``."""
    shutil.rmtree(folder, ignore_errors=True)
    assemble(vae.half(), text_encoder.half(), tokenizer, unet.half()).save_pretrained(folder, safe_serialization=True)
    _load_as_float32(folder / "text_encoder" / "config.json")
    for part in ("vae", "unet"):
        _forget_origin(folder / part / "config.json")


def export_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """A folder for ``CLIPModel.from_pretrained``, with tokenizer and image processor."""
    shutil.rmtree(folder, ignore_errors=True)
    clip.half().save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)
    _load_as_float32(folder / "config.json")


def _load_as_float32(config: Path) -> None:
    """Write float32 into the configuration. transformers computes in its type, and float16 does not suit a CPU."""
    settings = json.loads(config.read_text())
    settings["dtype"] = str(torch.float32).removeprefix("torch.")
    config.write_text(json.dumps(settings, indent=2) + "\n")


def _forget_origin(config: Path) -> None:
    """Remove the folder that diffusers noted as a model's origin: the files must not depend on it."""
    settings = json.loads(config.read_text())
    settings.pop("_name_or_path", None)
    config.write_text(json.dumps(settings, indent=2) + "\n")

"""LoRAs as other programs write them: peft's folders, diffusers' and kohya's files, of the same weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor

from networks.backbone import load_backbone

RANK, ALPHA = 3, 6.0
UNET_LAYERS = ["to_q", "to_v", "to_out.0"]
TEXT_LAYERS = ["q_proj", "out_proj", "fc1"]
LAYOUTS = ("peft", "diffusers", "diffusers with metadata", "kohya")


def write_lora(place: Path, base: Path, layout: str, seed: int, about: Mapping[str, str] | None = None) -> Path:
    """A LoRA of UNet and text encoder whose alpha is twice its rank; ``seed`` decides its weights, the layout does not.

    Returns:
        The file, or the folder of peft's.
    """
    backbone = load_backbone(str(base))
    wrapped = {}
    parts = {"unet": (backbone.unet, UNET_LAYERS)}
    parts |= {f"text_encoder{'_2' * i}": (one, TEXT_LAYERS) for i, one in enumerate(backbone.text.encoders)}
    for part, (plain, layers) in parts.items():
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=layers)
        model = get_peft_model(plain, config)
        for number, (name, value) in enumerate(model.named_parameters()):
            if "lora_" in name:
                value.data = 0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(seed + number))
        wrapped[part] = model
    if layout == "peft":
        for part, model in wrapped.items():
            model.save_pretrained(place / part)
        return place
    file = place.with_suffix(".safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    pairs = {part: _pairs(model) for part, model in wrapped.items()}
    if layout == "kohya":
        save_file(_kohya(pairs), file, {"ss_base_model_version": "sd_v1", **(about or {})})
        return file
    told = layout == "diffusers with metadata"
    if not told:  # a file of diffusers that says nothing has alpha equal to rank
        for tensors in pairs.values():
            tensors.update({n: v * (ALPHA / RANK) for n, v in tensors.items() if "lora_B" in n})
    said = {"r": RANK, "lora_alpha": ALPHA}
    layers = {f"{part}_lora_layers": found for part, found in pairs.items()}
    about = {f"{part}_lora_adapter_metadata": said | {"target_modules": parts[part][1]} for part in pairs if told}
    pipeline = StableDiffusionXLPipeline if len(parts) > 2 else StableDiffusionPipeline
    pipeline.save_lora_weights(file.parent, weight_name=file.name, **layers, **about)
    return file


def map_line(subject: str, file: str, trigger: str = "sks", noun: str = "person", photos: str = "") -> str:
    """A line of ``map.csv``."""
    return ",".join((subject, file, trigger, noun, photos))


def write_map(folder: Path, *lines: str) -> None:
    (folder / "map.csv").write_text("\n".join(("subject,file,trigger,noun,photos", *lines)), encoding="utf-8")


def _pairs(model: torch.nn.Module) -> dict[str, Tensor]:
    """By peft's names below the model."""
    return {
        name.removeprefix("base_model.model.").replace(".default", ""): value.detach().clone()
        for name, value in model.named_parameters()
        if "lora_" in name
    }


def _kohya(pairs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    found = {}
    text = ("lora_te1_", "lora_te2_") if len(pairs) > 2 else ("lora_te_",)
    starts = ("lora_unet_", *(f"{one}text_model_" for one in text))
    for layers, start in zip(pairs.values(), starts, strict=True):
        for name, value in layers.items():
            layer, side = name.split(".lora_")
            key = start + layer.removeprefix("text_model.").replace(".", "_")
            found[f"{key}.lora_{'down' if side.startswith('A') else 'up'}.weight"] = value.contiguous()
            found[f"{key}.alpha"] = torch.tensor(ALPHA)
    return found

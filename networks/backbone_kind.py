"""Which base models work, told from a folder's configuration files before any weight is read."""

from pathlib import Path
from typing import Any

from contracts.files import read_file
from contracts.strict_json import parse
from networks.pretrained import LONGEST_PROMPT

WORKS = (
    "what works is a text-to-image Stable Diffusion of the kind of 1.x and 2.x: one CLIP text encoder, a UNet with 4 "
    "latent channels, noise or velocity as its target"
)
TIMESTEPS = 1000
LARGEST_FILE = 4 * 1024 * 1024
_PLAIN = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
"""Further conditions of a UNet, which no text-to-image model of this kind has."""


def check_kind(folder: Path) -> None:
    """Read the configurations of a ``StableDiffusionPipeline`` folder.

    Raises:
        ValueError: a network is of another kind, or a setting is missing that decides shapes. The message says which
            kinds work.
        OSError: a file is missing.
    """
    reason = _misfit(folder)
    if reason:
        raise ValueError(f"{reason}; {WORKS}")


def _misfit(folder: Path) -> str:
    unet, vae = _read(folder / "unet"), _read(folder / "vae")
    text, scheduler = _read(folder / "text_encoder"), _read(folder / "scheduler", "scheduler_config.json")
    for part, found, wanted in (("unet", unet, "UNet2DConditionModel"), ("vae", vae, "AutoencoderKL")):
        if found.get("_class_name", wanted) != wanted:
            return f"its {part} is a {found['_class_name']} and no {wanted}"
    if (folder / "text_encoder_2").is_dir():
        return "it has a second text encoder, as SDXL has"
    if further := [name for name in _PLAIN if unet.get(name) is not None]:
        return f"its UNet has {further[0]} {unet[further[0]]!r}, as SDXL, LCM and image variations have"
    latent = vae.get("latent_channels", 4)
    if (channels := unet.get("in_channels", 4)) != latent:
        return f"its UNet takes {channels} channels and its VAE has {latent}, as inpainting and depth models have"
    side = unet.get("sample_size")
    if not isinstance(side, int) or side < 1:
        return f"unet/config.json says sample_size {side!r}, and must say the side of the latents in cells"
    target = scheduler.get("prediction_type", "epsilon")
    if target not in ("epsilon", "v_prediction"):
        return f"its scheduler says prediction_type {target!r}, and training would have another target"
    if (steps := scheduler.get("num_train_timesteps", TIMESTEPS)) != TIMESTEPS:
        return f"its scheduler has {steps} timesteps and not {TIMESTEPS}"
    width, own = unet.get("cross_attention_dim", 1280), text.get("text_config", text).get("hidden_size", 512)
    if width != own:
        return f"its UNet reads text states of width {width!r}, and its text encoder makes {own}"
    length = _read(folder / "tokenizer", "tokenizer_config.json").get("model_max_length")
    room = text.get("text_config", text).get("max_position_embeddings", 77)
    if not isinstance(length, int | float) or not 2 < length <= LONGEST_PROMPT:
        return f"tokenizer/tokenizer_config.json says no model_max_length; the text encoder reads {room} tokens"
    if length > room:
        return f"its tokenizer makes {length} tokens, and its text encoder reads {room}"
    return ""


def _read(part: Path, name: str = "config.json") -> dict[str, Any]:
    file = part / name
    if not part.is_dir():
        raise OSError(f"it has no folder {part.name}; {WORKS}")
    try:
        settings = parse(read_file(file, LARGEST_FILE).decode())
    except ValueError as error:
        raise ValueError(f"{part.name}/{name} is damaged: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{part.name}/{name} is damaged: it holds no keys")
    return settings

"""Which base models work, told from a folder's configuration files before any weight is read."""

from pathlib import Path
from typing import Any

from contracts.files import read_file
from contracts.strict_json import parse
from networks.pretrained import LONGEST_PROMPT

WORKS = (
    "what works is a text-to-image Stable Diffusion 1.x or 2.x (one CLIP text encoder) or SDXL base (two, pooled text "
    "and sizes), with a UNet that takes the VAE's channels, noise or velocity as its target"
)
SCHEDULER, TOKENIZER = "scheduler_config.json", "tokenizer_config.json"
TIMESTEPS = 1000
LARGEST_FILE = 4 * 1024 * 1024
_PLAIN = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
"""Further conditions of a UNet, which no text-to-image model of this kind has."""
_POOLED_AND_SIZES = "text_time"
"""SDXL's further condition."""
SIZES = 6
_INDEX = "model_index.json"


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


def reads_sizes(folder: Path) -> bool:
    """Whether the base model has two text encoders and reads pooled text and sizes, as SDXL does."""
    return _read(folder / "unet").get("addition_embed_type") == _POOLED_AND_SIZES


def is_silent(folder: Path) -> bool:
    """Whether the base model was trained with zeros in the place of an empty text, as SDXL's stock pipeline has it
    unless the folder says otherwise."""
    index = _read_file(folder / _INDEX) if (folder / _INDEX).is_file() else {}
    return reads_sizes(folder) and bool(index.get("force_zeros_for_empty_prompt", True))


def _misfit(folder: Path) -> str:
    if not (folder / "unet").is_dir() and (folder / "transformer").is_dir():
        return "it has a transformer and no UNet, as models of flow matching (SD3, FLUX) have"
    unet, vae, scheduler = _read(folder / "unet"), _read(folder / "vae"), _read(folder / "scheduler", SCHEDULER)
    for part, found, wanted in (("unet", unet, "UNet2DConditionModel"), ("vae", vae, "AutoencoderKL")):
        if found.get("_class_name", wanted) != wanted:
            return f"its {part} is a {found['_class_name']} and no {wanted}"
    if further := [name for name in _PLAIN if unet.get(name) is not None]:
        return f"its UNet has {further[0]} {unet[further[0]]!r}, as LCM and image variations have"
    latent = vae.get("latent_channels", 4)
    if (channels := unet.get("in_channels", 4)) != latent:
        return f"its UNet takes {channels} channels and its VAE has {latent}, as inpainting and depth models have"
    if shifted := [name for name in ("latents_mean", "shift_factor") if vae.get(name)]:
        return f"its VAE has {shifted[0]}, and latents would be shifted"
    side = unet.get("sample_size")
    if not isinstance(side, int) or side < 1:
        return f"unet/config.json says sample_size {side!r}, and must say the side of the latents in cells"
    target = scheduler.get("prediction_type", "epsilon")
    if target not in ("epsilon", "v_prediction"):
        return f"its scheduler says prediction_type {target!r}, and training would have another target"
    if (steps := scheduler.get("num_train_timesteps", TIMESTEPS)) != TIMESTEPS:
        return f"its scheduler has {steps} timesteps and not {TIMESTEPS}"
    return _text_misfit(folder, unet)


def _text_misfit(folder: Path, unet: dict[str, Any]) -> str:
    added = unet.get("addition_embed_type")
    if added not in (None, _POOLED_AND_SIZES):
        return f"its UNet has addition_embed_type {added!r}, as no Stable Diffusion has"
    if added is None and (folder / "text_encoder_2").is_dir():
        return "it has a second text encoder, and its UNet reads no pooled text"
    if added and not (folder / "text_encoder").is_dir() and (folder / "text_encoder_2").is_dir():
        return "it has text_encoder_2 alone, as SDXL's refiner has, which goes on from an image"
    ends = ("", "_2") if added else ("",)
    encoders = [_read(folder / f"text_encoder{end}") for end in ends]
    encoders = [settings.get("text_config", settings) for settings in encoders]
    width, own = unet.get("cross_attention_dim", 1280), sum(one.get("hidden_size", 512) for one in encoders)
    if width != own:
        return f"its UNet reads text states of width {width!r}, and its text encoders make {own}"
    if added:
        pooled = encoders[-1].get("projection_dim", 512)
        room = (unet.get("projection_class_embeddings_input_dim") or 0) - pooled
        if room != SIZES * (unet.get("addition_time_embed_dim") or 0):
            return (
                f"its UNet does not read the {pooled} numbers of pooled text and {SIZES} sizes; SDXL's refiner reads 5"
            )
    lengths = [_read(folder / f"tokenizer{end}", TOKENIZER).get("model_max_length") for end in ends]
    for length, encoder, end in zip(lengths, encoders, ends, strict=True):
        room = encoder.get("max_position_embeddings", 77)
        if not isinstance(length, int | float) or not 2 < length <= LONGEST_PROMPT:
            return f"tokenizer{end}/{TOKENIZER} says no model_max_length; text_encoder{end} reads {room} tokens"
        if length > room:
            return f"its tokenizer{end} makes {length} tokens, and its text_encoder{end} reads {room}"
    if len(set(lengths)) > 1:
        return f"its tokenizers make {lengths[0]} and {lengths[1]} tokens, and the states of both lie side by side"
    return ""


def _read(part: Path, name: str = "config.json") -> dict[str, Any]:
    if not part.is_dir():
        raise OSError(f"it has no folder {part.name}; {WORKS}")
    return _read_file(part / name)


def _read_file(file: Path) -> dict[str, Any]:
    named = file.name if file.name == _INDEX else f"{file.parent.name}/{file.name}"
    try:
        settings = parse(read_file(file, LARGEST_FILE).decode())
    except ValueError as error:
        raise ValueError(f"{named} is damaged: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{named} is damaged: it holds no keys")
    return settings

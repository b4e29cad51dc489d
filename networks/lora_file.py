"""LoRA files of other programs: peft's folders, diffusers' and kohya's files, brought to one form.

In that form a layer has A and B by peft's names, and W' = W + B A: alpha / rank is multiplied into B. ``worn`` puts one
of them on a base model through diffusers and peft, so that a stock pipeline generates the same image.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from diffusers import ModelMixin, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils.state_dict_utils import (
    StateDictType,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from contracts import strict_json
from contracts.errors import LikenessError
from contracts.files import read_file
from networks.backbone import Backbone
from networks.pretrained import first_line, quiet_loading

CONFIG, WEIGHTS, DIFFUSERS = "adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors"
"""What a folder of peft holds, and one of diffusers."""
_PARTS = ("unet", "text_encoder", "text_encoder_2")
_PEFT = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_SDXL = ("text_encoder_2.", "lora_te2_", "lora_unet_input_blocks_", "lora_unet_output_blocks_")
_SDXL_BLOCKS = SimpleNamespace(layers_per_block=2)
"""What diffusers wants to know of SDXL's UNet to bring the names of kohya's files to its own."""
_OTHER_KINDS = {"dora_scale": "DoRA", "lora_magnitude": "DoRA", "hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT"}
_WORN = "worn"


@dataclass(frozen=True)
class Lora:
    """Low-rank changes of a UNet and of text encoders: ``LAYER.lora_A.weight`` and ``LAYER.lora_B.weight`` of each."""

    unet: Mapping[str, Tensor]
    text_encoder: Mapping[str, Tensor]
    text_encoder_2: Mapping[str, Tensor] = field(default_factory=dict)
    for_sdxl: bool = False
    """Whether its names or its file say that it was trained for SDXL; those of one UNet alone may say nothing."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the file says of itself."""


def lora_files(place: Path) -> list[Path]:
    """The files that a LoRA at ``place`` is made of, in order; empty where there is none."""
    if not place.is_dir():
        return [place] if place.is_file() else []
    if (place / DIFFUSERS).is_file():
        return [place / DIFFUSERS]
    folders = [folder for folder in (place, *(place / part for part in _PARTS)) if (folder / CONFIG).is_file()]
    return [folder / name for folder in folders for name in (CONFIG, WEIGHTS)]


def read_about(place: Path) -> dict[str, str]:
    """What a LoRA says of itself beside the numbers, which are not read; nothing where it is peft's.

    Raises:
        LikenessError: it cannot be read.
    """
    files = [file for file in lora_files(place) if file.name not in (CONFIG, WEIGHTS)]
    return _read(files[0], weights=False)[1] if files else {}


def read_lora(place: Path) -> Lora:
    """Read a file or a folder.

    Raises:
        LikenessError: there is none, it is damaged, or of another kind than LoRA.
    """
    files = lora_files(place)
    if not files:
        raise LikenessError(f"no LoRA at {str(place)!r}: it is neither a safetensors file nor a folder of peft's")
    if files[0].name != CONFIG:
        tensors, about = _read(files[0])
        _check_kind(files[0], tensors)
        return _of_file(files[0], tensors, about)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for config, weights in zip(files[::2], files[1::2], strict=True):
        settings, (tensors, _) = _settings(config), _read(weights)
        _check_kind(weights, tensors)
        names = {name: name.removeprefix(_PEFT) for name in tensors}
        guess = "text_encoder" if any("encoder.layers." in name for name in names.values()) else "unet"
        part = config.parent.name if config.parent.name in _PARTS else guess
        parts[part] |= _scaled({names[name]: value for name, value in tensors.items()}, settings, weights)
    unet, *text = (parts[part] for part in _PARTS)
    return Lora(unet, text[0], text[1], for_sdxl=bool(text[1]))


def numbers_in(place: Path) -> int:
    """How many numbers a LoRA has, which are not read.

    Raises:
        LikenessError: it cannot be read.
    """
    count = 0
    for file in lora_files(place):
        if file.suffix == ".safetensors":
            with _opened(file) as opened:
                names = [name for name in opened.keys() if not name.endswith(".alpha")]  # noqa: SIM118 - not a dict
                count += sum(prod(opened.get_slice(name).get_shape()) for name in names)
    return count


def check_fit(lora: Lora, base: Backbone, fingerprint: str, name: str) -> None:
    """Raise ``LikenessError`` where a LoRA was trained for another base model.

    Args:
        base: The base model; its weights may be on the meta device.
        fingerprint: Of its weights.
        name: What errors call the LoRA.
    """
    if (theirs := lora.about.get("backbone")) not in (None, fingerprint):
        raise LikenessError(f"{name} was trained for base model {str(theirs)[:12]}, this one is {fingerprint[:12]}")
    models = _models(base)
    if lora.for_sdxl and len(models) < len(_PARTS):
        raise LikenessError(f"{name} was trained for another base model: it is a LoRA for SDXL")
    for part, model in models.items():
        layers = dict(model.named_modules())
        for key in getattr(lora, part):
            layer, side = key.rsplit(".lora_", 1)[0], key.endswith(_B)
            found = layers.get(layer) or layers.get(layer.removeprefix("text_model."))
            ours = getattr(found, "weight", None)
            value = getattr(lora, part)[key]
            if ours is None or value.ndim != ours.ndim:
                raise LikenessError(f"{name} was trained for another base model: this one has no such {part}.{layer}")
            size, here = (value.shape[0], ours.shape[0]) if side else (value.shape[1], ours.shape[1])
            if size != here:
                which = "gives" if side else "takes"
                raise LikenessError(
                    f"{name} was trained for another base model: {part}.{layer} {which} {size} numbers there and "
                    f"{here} here"
                )


@contextmanager
def worn(backbone: Backbone, lora: Lora, strength: float = 1.0) -> Iterator[None]:
    """Inside of the block ``backbone`` is changed by ``strength`` times the LoRA."""
    models = {part: model for part, model in _models(backbone).items() if getattr(lora, part)}
    try:
        with quiet_loading():
            for part, model in models.items():
                state = {f"{part}.{k}": v * strength if k.endswith(_B) else v for k, v in getattr(lora, part).items()}
                how: dict[str, Any] = {"network_alphas": None, "adapter_name": _WORN}
                if part == "unet":
                    StableDiffusionPipeline.load_lora_into_unet(state, unet=model, **how)
                else:
                    StableDiffusionPipeline.load_lora_into_text_encoder(state, text_encoder=model, prefix=part, **how)
        yield
    finally:
        for model in models.values():
            _take_off(model)


def _models(backbone: Backbone) -> dict[str, nn.Module]:
    """What each part of a LoRA changes."""
    return dict(zip(_PARTS, (backbone.unet, *backbone.text.encoders), strict=False))


def _take_off(model: Any) -> None:
    if _WORN in getattr(model, "peft_config", {}):
        (model.delete_adapters if isinstance(model, ModelMixin) else model.delete_adapter)(_WORN)


def _of_file(file: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> Lora:
    """A file of diffusers or of kohya."""
    for_sdxl = about.get("ss_base_model_version", "").startswith("sdxl") or any(n.startswith(_SDXL) for n in tensors)
    try:
        with quiet_loading():
            plain = _without_alphas(tensors)
            if for_sdxl:
                state, _ = StableDiffusionXLPipeline.lora_state_dict(plain, unet_config=_SDXL_BLOCKS)
            else:
                state, _ = StableDiffusionPipeline.lora_state_dict(plain)
            unet, *text = (
                {k.removeprefix(f"{p}."): v for k, v in state.items() if k.startswith(f"{p}.")} for p in _PARTS
            )
            if strange := [k for k in state if k.partition(".")[0] not in _PARTS]:
                raise ValueError(f"it has {strange[0]}")
            unet = convert_unet_state_dict_to_peft(unet)
            # These names hold those of newer files too; diffusers' own guess takes all from one layer's.
            text = [convert_state_dict_to_peft(part, StateDictType.DIFFUSERS_OLD) for part in text]
    except (KeyError, ValueError, AttributeError) as error:
        raise LikenessError(f"{str(file)!r} is no LoRA of peft, diffusers or kohya: {first_line(error)}") from error
    settings = _embedded(file, about)
    told = ({k.removeprefix(f"{part}."): v for k, v in settings.items() if k.startswith(f"{part}.")} for part in _PARTS)
    unet, *text = (_scaled(part, said, file) for part, said in zip((unet, *text), told, strict=True))
    return Lora(unet, text[0], text[1], for_sdxl, about)


def _without_alphas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """kohya's alpha / rank, multiplied into each layer's second matrix."""
    found = {name: value for name, value in tensors.items() if not name.endswith(".alpha")}
    for name, alpha in tensors.items():
        layer = name.removesuffix(".alpha")
        if layer != name and f"{layer}.lora_up.weight" in found:
            up = found[f"{layer}.lora_up.weight"]
            found[f"{layer}.lora_up.weight"] = up * (float(alpha) / up.shape[1])
    return found


def _scaled(pairs: Mapping[str, Tensor], settings: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """Pairs in float32 with alpha / rank of peft's ``settings`` in B; nothing is said by empty ones."""
    found = {}
    for name, value in pairs.items():
        if not name.endswith((_A, _B)) or name[: -len(_A)] + (_B if name.endswith(_A) else _A) not in pairs:
            raise LikenessError(f"{str(file)!r} is no LoRA that Likeness knows: {name} is not one of a pair")
        found[name] = value.float()
        if name.endswith(_B) and settings:
            rank, layer = value.shape[1], name.removesuffix(_B)
            pattern: Mapping[str, float] = settings.get("alpha_pattern") or {}
            alpha = float(pattern.get(get_pattern_key(list(pattern), layer), settings.get("lora_alpha", rank)))
            found[name] *= alpha / (rank**0.5 if settings.get("use_rslora") else rank)
    return found


def _settings(file: Path) -> dict[str, Any]:
    """What ``adapter_config.json`` says."""
    try:
        settings = strict_json.parse(read_file(file).decode())
        kind = settings["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LikenessError(f"{str(file)!r} is not a readable configuration of peft: {first_line(error)}") from error
    if kind != "LORA" or settings.get("use_dora"):
        raise LikenessError(f"{str(file)!r} is of {'a DoRA' if kind == 'LORA' else kind}, --lora reads LoRA alone")
    return settings


def _embedded(file: Path, about: Mapping[str, str]) -> dict[str, Any]:
    """peft's settings by part, which diffusers writes into its files."""
    try:
        settings = json.loads(about.get("lora_adapter_metadata", "{}"))
        return {str(name): value for name, value in settings.items()}
    except (ValueError, AttributeError) as error:
        raise LikenessError(f"{str(file)!r}: its lora_adapter_metadata is damaged: {first_line(error)}") from error


def _read(file: Path, weights: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    with _opened(file) as opened:
        names = opened.keys() if weights else []
        return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"{str(file)!r} is not a readable LoRA in safetensors: {first_line(error)}") from error


def _check_kind(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse by its name what is known and is not read."""
    for part, kind in _OTHER_KINDS.items():
        if any(part in name for name in tensors):
            raise LikenessError(f"{str(file)!r} is a {kind}, --lora reads LoRA alone")

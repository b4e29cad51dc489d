"""Public IP-Adapter files: their names for our weights, and how they are read and written.

A file has ``image_proj.*``, the projection to tokens, and ``ip_adapter.{k}.*``, where k counts the UNet's attention
layers in diffusers' order. A ``.bin`` has the two as nested dictionaries.
"""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import write_atomically
from networks.pretrained import first_line

GROUPS = ("image_proj", "ip_adapter")
OTHER_KINDS = {
    "image_proj.perceiver_resampler.proj_in.weight": "IP-Adapter FaceID Plus",
    "image_proj.proj.3.weight": "IP-Adapter Full Face",
}
"""An entry that only a kind has which Likeness does not build."""


def public_names(unet: UNet2DConditionModel, names: Iterable[str]) -> dict[str, str]:
    """The public name of each entry of an IP-Adapter's ``adapter.safetensors``; those without one are left out."""
    numbers = {path.removesuffix(".processor").replace(".", "-"): k for k, path in enumerate(unet.attn_processors)}
    found = {}
    for name in names:
        part, _, rest = name.partition(".")
        if part == "project":
            # The plain form's linear map is called ``project`` here, and ``proj`` there.
            found[name] = f"image_proj.{rest.replace('project.', 'proj.')}"
        elif part in ("attention", "updates"):
            layer, projection, end = rest.split(".", 2)
            suffix = "ip" if part == "attention" else "lora"
            found[name] = f"ip_adapter.{numbers[layer]}.{projection}_{suffix}.{end}"
    return found


def read_public(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``.bin`` file by their full names, in float32.

    Raises:
        LikenessError: the file is missing or damaged, holds more than tensors, is no IP-Adapter, or is of a kind that
            Likeness does not build.
    """
    if not path.is_file():
        raise LikenessError(f"no IP-Adapter file at {str(path)!r}")
    try:
        tensors = _safetensors(path) if path.suffix == ".safetensors" else _nested(path)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise LikenessError(f"{str(path)!r} is not a readable IP-Adapter file: {first_line(error)}") from error
    for entry, kind in OTHER_KINDS.items():
        if entry in tensors:
            raise LikenessError(f"{str(path)!r} is an {kind}, which Likeness lacks: take a plain, Plus or FaceID file")
    missing = [group for group in GROUPS if not any(name.startswith(f"{group}.") for name in tensors)]
    if missing:
        raise LikenessError(f"{str(path)!r} is no IP-Adapter file: it has no {missing[0]}.*")
    return {name: value.float() for name, value in tensors.items()}


def write_public(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file that ``pipe.load_ip_adapter`` reads, whole or not at all.

    Raises:
        LikenessError: it cannot be written.
    """
    if path.suffix != ".safetensors":
        raise LikenessError(f"{str(path)!r}: an IP-Adapter file is written as .safetensors")
    try:
        write_atomically(path, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"{str(path)!r} could not be written: {first_line(error)}") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def _nested(path: Path) -> dict[str, Tensor]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    groups = {group: content.get(group) for group in GROUPS} if isinstance(content, dict) else {}
    found: dict[str, Tensor] = {}
    for group, tensors in groups.items():
        if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ValueError(f"{group} holds no tensors by name")
        found |= {f"{group}.{name}": value for name, value in tensors.items()}
    return found

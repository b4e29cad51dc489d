"""One subject's LoRA in a file of its own, which stock diffusers loads with ``pipe.load_lora_weights(FILE)``.

The layout is that of diffusers: ``unet.LAYER.lora_A.weight`` (rank, in) and ``unet.LAYER.lora_B.weight`` (out, rank).
The strength alpha / rank is multiplied into B, so every loader reads the same. The metadata says who it is, by which
words a prompt calls the subject, and for which base model it was trained.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import write_atomically

_FORMAT = "likeness-lora-1"


def save_lora(path: Path, pairs: Mapping[str, Tensor], strength: float, about: Mapping[str, str]) -> None:
    """Write the UNet's ``pairs`` by peft's names, the change ``strength`` times as large as their products.

    The file is written whole or not at all; raises :class:`LikenessError` when it cannot be written.
    """
    tensors = {}
    for name, value in pairs.items():
        value = value.detach().cpu().float()
        tensors[f"unet.{name}"] = (value * strength if name.endswith("lora_B.weight") else value).contiguous()
    try:
        write_atomically(path, save(tensors, {"format": _FORMAT, **about}))
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"LoRA {str(path)!r} could not be written: {error}") from error

"""LoRA of several subjects in one batch: every image reads the low-rank pair of its own subject.

peft says which layers a configuration targets, in which shapes, how strongly, and by which names. Its own mixed batches
run one subject after the other and do not train, so the pairs are applied here, for all rows of a batch at once:

    out = W x + s * B_i (A_i x),  s = alpha / rank,  i the row's subject
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.files import write_atomically

_FILE_FORMAT = "likeness-lora-1"
_DOWN, _UP = "lora_A.weight", "lora_B.weight"
Sizes = Mapping[str, tuple[int, int]]
"""Inputs and outputs by layer."""


def target_layers(unet: UNet2DConditionModel, config: LoraConfig) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the layers that peft would adapt, by name.

    Raises :class:`LikenessError` when there is none, or one is no linear layer.
    """
    with torch.device("meta"):
        skeleton = UNet2DConditionModel.from_config(unet.config)
    try:
        inject_adapter_in_model(config, skeleton, low_cpu_mem_usage=True)
    except ValueError as error:
        raise LikenessError(f"model.target_modules: {str(error).splitlines()[0]}") from error
    found = {name: layer for name, layer in skeleton.named_modules() if isinstance(layer, LoraLayer)}
    sizes = {}
    for name, adapted in found.items():
        layer = adapted.get_base_layer()
        if not isinstance(layer, nn.Linear):
            raise LikenessError(f"model.target_modules: {name} is no linear layer; name linear ones, such as to_q")
        sizes[name] = layer.in_features, layer.out_features
    return sizes


class LoraPairs(nn.Module):
    """The pairs A (rank, in) and B (out, rank) of one subject, as peft begins them: A uniform, B zero."""

    def __init__(self, sizes: Sizes, rank: int) -> None:
        super().__init__()
        self.pairs = nn.ParameterDict()
        for layer, (inner, outer) in sizes.items():
            down = nn.Parameter(torch.empty(rank, inner))
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
            self.pairs[_key(f"{layer}.{_DOWN}")] = down
            self.pairs[_key(f"{layer}.{_UP}")] = nn.Parameter(torch.zeros(outer, rank))

    @torch.no_grad()
    def start_at(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin at ``tensors`` by the names that :meth:`forward` gives them."""
        for name, value in tensors.items():
            self.pairs[_key(name)].copy_(value)

    def forward(self) -> dict[str, Tensor]:
        """The pairs by peft's names: ``LAYER.lora_A.weight``, ``LAYER.lora_B.weight``."""
        return {name.replace("/", "."): value for name, value in self.pairs.items()}


@dataclass(frozen=True, kw_only=True)
class LoraConditioning(Conditioning):
    """Text, and what changes the UNet's layers for each image."""

    pairs: dict[str, Tensor]
    """(K, ...) by peft's names: those of K subjects."""
    rows: Tensor
    """(B,) int64: which of them each image reads."""
    strength: float = 1.0
    """Scales the change; the base model is at 0."""


class BatchedLora:
    """Hooks on the UNet's target layers, which are the base model's unless they read a conditioning."""

    def __init__(self, unet: UNet2DConditionModel, layers: Sequence[str], scaling: float) -> None:
        self._scaling = scaling
        self._read: LoraConditioning | None = None
        for name in layers:
            unet.get_submodule(name).register_forward_hook(partial(self._add, name))

    @contextmanager
    def reading(self, conditioning: LoraConditioning | None) -> Iterator[None]:
        """Inside of the block every row of a layer's input is that row's image of ``conditioning``; without one the
        layers are the base model's. Where a gradient is recorded this lasts until the next block, because layers may be
        computed again in the backward pass."""
        self._read = conditioning
        try:
            yield
        finally:
            if not torch.is_grad_enabled():
                self._read = None

    def _add(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._read is None:
            return None
        down, up = (self._read.pairs[f"{name}.{part}"][self._read.rows] for part in (_DOWN, _UP))
        x = inputs[0].to(down.dtype)
        flat = x.reshape(len(x), -1, x.shape[-1])
        change = (flat @ down.mT @ up.mT).reshape(output.shape)
        return output + (self._scaling * self._read.strength * change).to(output.dtype)


def save_lora(path: Path, pairs: Mapping[str, Tensor], strength: float, about: Mapping[str, str]) -> None:
    """Write one subject's ``pairs``, the change ``strength`` times as large as their products, into a file that stock
    diffusers loads with ``pipe.load_lora_weights(FILE)``.

    The layout is that of diffusers: peft's names below ``unet.``. The strength is multiplied into B, so every loader
    reads the same. ``about`` says who it is, by which words, and for which base model. The file is written whole or not
    at all; raises :class:`LikenessError` when it cannot be written.
    """
    tensors = {}
    for name, value in pairs.items():
        value = value.detach().cpu().float()
        tensors[f"unet.{name}"] = (value * strength if name.endswith(_UP) else value).contiguous()
    try:
        write_atomically(path, save(tensors, {"format": _FILE_FORMAT, **about}))
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"LoRA {str(path)!r} could not be written: {error}") from error


def _key(name: str) -> str:
    """A parameter's name without dots, which no registered part may have."""
    return name.replace(".", "/")

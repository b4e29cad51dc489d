"""Deterministic weights for networks of the public e4e layout, made from the entries' names alone.

``e4e_reference/`` holds layouts (names and shapes), fingerprints of every entry, and outputs that an independent
implementation computed with these weights. It is data: no trained weight and no code is among it.
"""

import gzip
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "e4e_reference"


def layout(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes by entry name of ``encoder``, ``generator_1024`` or ``generator_small``."""
    return {k: tuple(v) for k, v in _read(f"layout_{name}")["shapes"].items()}


def fingerprints(name: str) -> Any:
    """First, last, mean and standard deviation of every entry."""
    return _read("weights_check")[name]


def expected(name: str) -> dict[str, NDArray[np.float32]]:
    """Recorded inputs and outputs by name."""
    with np.load(FOLDER / f"expected_{name}.npz") as file:
        return dict(file)


def normal(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """A recorded network input."""
    return torch.from_numpy((scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32))


def keyed(name: str, shape: tuple[int, ...], mean: float, spread: float) -> Tensor:
    """Normal numbers whose seed is the entry's name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return torch.from_numpy((mean + spread * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32))


def encoder_entry(name: str, shape: tuple[int, ...], batch_norm: bool) -> Tensor:
    """``batch_norm`` tells a norm's weight from a PReLU's slope."""
    if name.endswith(".num_batches_tracked"):
        return torch.tensor(0)
    if len(shape) == 4:
        return keyed(name, shape, 0, 1 / math.sqrt(math.prod(shape[1:])))
    if len(shape) == 2:
        return keyed(name, shape, 0, 1)
    if name.endswith(".running_var"):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        return torch.from_numpy(
            (1 + 0.1 * np.abs(np.random.default_rng(seed).standard_normal(shape))).astype(np.float32)
        )
    if name.endswith((".bias", ".running_mean")):
        return keyed(name, shape, 0, 0.1)
    return keyed(name, shape, 1, 0.1) if batch_norm else keyed(name, shape, 0.25, 0.05)


def generator_entry(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith(".kernel"):
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        return torch.outer(taps, taps) / 16
    if name.startswith("style."):
        return keyed(name, shape, 0, 100 if name.endswith("weight") else 10)
    if name.endswith(".modulation.bias"):
        return keyed(name, shape, 1, 0.1)
    if name.endswith(".noise.weight"):
        return keyed(name, shape, 0.1, 0.05)
    return keyed(name, shape, 0, 0.1 if name.endswith(".bias") else 1)


def fill_encoder(encoder: nn.Module, prefixes: tuple[str, ...] = ("",)) -> None:
    """Give an encoder on the meta device the weights of all entries that start with one of ``prefixes``."""
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    entries = {
        name: encoder_entry(name, shape, name.replace(".weight", ".running_mean") in shapes)
        for name, shape in shapes.items()
        if name.startswith(prefixes)
    }
    encoder.load_state_dict(entries, strict=len(entries) == len(shapes), assign=True)


def fill_generator(generator: nn.Module) -> None:
    """Give a generator on the meta device all its weights."""
    entries = {name: generator_entry(name, tuple(v.shape)) for name, v in generator.state_dict().items()}
    generator.load_state_dict(entries, assign=True)


def check(network: nn.Module, name: str) -> None:
    """Compare the weights that are there with their fingerprints: numpy does not promise one stream for ever."""
    wanted = fingerprints(name)
    for entry, value in network.state_dict().items():
        if not value.is_meta:
            flat = value.numpy().astype(np.float64).ravel()
            np.testing.assert_allclose(
                [flat[0], flat[-1], flat.mean(), flat.std()], wanted[entry], atol=1e-6, rtol=1e-6, err_msg=entry
            )


def _read(name: str) -> Any:
    with gzip.open(FOLDER / f"{name}.json.gz", "rt") as file:
        return json.load(file)

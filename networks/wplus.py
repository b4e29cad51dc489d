"""The frozen pair of e4e and StyleGAN2 behind W+ methods, loaded from a folder or from a public checkpoint."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from contracts.errors import LikenessError
from contracts.files import file_sha256, read_file, write_atomically
from contracts.strict_json import parse
from networks.e4e import E4E
from networks.fingerprints import folder_fingerprint
from networks.pretrained import first_line
from networks.stylegan2 import StyleGAN2, row_count
from networks.weight_manifest import verify_if_listed

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CHECKPOINT_ENCODER = "Encoder4Editing"
"""What a checkpoint's options call e4e. pSp's own encoder has the same entry names and another meaning."""
CHECKPOINT_WIDTH = 512
"""Channels of a row of codes in every public checkpoint."""
CHECKPOINT_SIZES = tuple(8 << i for i in range(8))
"""Sides in pixels, up to 1024, for which a public checkpoint's generator has a table of channels."""
_BEGINNINGS = b"PK\x03\x04", pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
"""First bytes of what ``torch.save`` writes: a zip archive, or before PyTorch 1.6 a number of its own."""


class WPlusEncoder(nn.Module):
    """e4e and its generator, frozen: aligned faces to W+ codes and back.

    Attributes:
        rows: Rows of a code.
        width: Channels of a row.
        size: Side of a generated image in pixels.
        latent_avg: The mean code (rows, width) that codes start from. It is zero where the checkpoint's option
            ``start_from_latent_avg`` is false.
        fingerprint: Names the weights; caches of codes carry it.
    """

    latent_avg: Tensor

    def __init__(self, encoder: E4E, generator: StyleGAN2, latent_avg: Tensor, fingerprint: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = generator
        self.fingerprint = fingerprint
        self.register_buffer("latent_avg", latent_avg.float())
        self.rows = generator.rows
        self.width = generator.width
        self.size = generator.size
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "WPlusEncoder":
        """Keep evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Aligned faces (B, H, W, 3) uint8, squares of any side, to W+ codes (B, rows, width)."""
        pixels = torch.as_tensor(images).to(self.latent_avg.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        side = self.encoder.input_size
        if pixels.shape[2:] != (side, side):
            pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return self.encoder(pixels) + self.latent_avg

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """W+ codes (B, rows, width) to images (B, size, size, 3) uint8, with the registered noise.

        Raises :class:`LikenessError` for codes of another shape.
        """
        pixels = self.decoder(codes.to(self.latent_avg))
        return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def load_wplus(source: str) -> WPlusEncoder:
    """A folder that :func:`save_wplus` wrote, or a public e4e checkpoint (``.pt``), on the CPU in float32.

    A checkpoint is read without running code from it. Raises :class:`LikenessError` where it is of another size or
    kind. The error names entries that are missing, extra, no floating-point numbers or not finite.
    """
    path = _existing(source)
    if path.is_dir():
        encoder, generator = _from_config(path)
        state = _read_folder(path)
    else:
        state, size = _read_checkpoint(path)
        with torch.device("meta"):
            encoder = E4E(row_count(size))
            generator = StyleGAN2(size)
    latent_avg = _fill(source, encoder, generator, state)
    return WPlusEncoder(encoder, generator, latent_avg, wplus_fingerprint(source))


def wplus_fingerprint(source: str) -> str:
    """SHA-256 over the weight files of a folder or checkpoint, without loading them."""
    path = _existing(source)
    return folder_fingerprint(path) if path.is_dir() else file_sha256(path)


def save_wplus(
    folder: Path, encoder: E4E, generator: StyleGAN2, latent_avg: Tensor, dtype: torch.dtype = torch.float32
) -> None:
    """Write ``config.json`` and ``model.safetensors``, the latter with the names of a checkpoint and ``latent_avg``."""
    settings = {
        "generator": {
            "size": generator.size,
            "width": generator.width,
            "mapping_layers": len(generator.style) - 1,
            "channels": generator.channels,
        },
        "encoder": {"input_size": encoder.input_size, "stages": encoder.blocks},
    }
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"decoder.{k}": v for k, v in generator.state_dict().items()} | {"latent_avg": latent_avg}
    tensors = {k: v.detach().cpu().to(dtype if v.is_floating_point() else v.dtype) for k, v in state.items()}
    write_atomically(folder / WEIGHTS_FILE, save({k: v.contiguous() for k, v in tensors.items()}, {"format": "pt"}))
    write_atomically(folder / CONFIG_FILE, (json.dumps(settings, indent=1) + "\n").encode())


def _existing(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        verify_if_listed(path)
        return path
    if not path.is_file():
        raise LikenessError(
            f"wplus: no folder or checkpoint at {source!r}; give a folder such as pocket/weights/style "
            "or the .pt file of an e4e encoder (nothing is downloaded)"
        )
    return path


def _from_config(folder: Path) -> tuple[E4E, StyleGAN2]:
    """Both networks on the meta device, in the shapes of the folder's configuration."""
    file = str(folder / CONFIG_FILE)
    try:
        settings = parse(read_file(folder / CONFIG_FILE).decode())
        with torch.device("meta"):
            generator = StyleGAN2(**settings["generator"])
            # The file calls the encoder's blocks stages.
            sizes = {"blocks" if name == "stages" else name: value for name, value in settings["encoder"].items()}
            return E4E(generator.rows, generator.width, **sizes), generator
    except LikenessError as error:
        raise LikenessError(f"wplus: {file!r}: {error}") from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        raise LikenessError(f"wplus: {file!r} is no such configuration: {first_line(error)}") from error


def _read_folder(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"wplus: cannot read {str(folder / WEIGHTS_FILE)!r}: {first_line(error)}") from error


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], int]:
    """Entries with the mean code among them, and the generator's size, of a file that e4e's training wrote."""
    file = _load_plainly(path)
    if not isinstance(file, Mapping) or not isinstance(file.get("state_dict"), Mapping):
        raise LikenessError(f"wplus: {str(path)!r} has no state_dict, so it is no e4e checkpoint")
    options = file.get("opts") or {}
    if not isinstance(options, Mapping):
        raise LikenessError(f"wplus: {str(path)!r}: opts is a {type(options).__name__}, expected names with values")
    kind = options.get("encoder_type", CHECKPOINT_ENCODER)
    size = options.get("stylegan_size", 1024)
    if kind != CHECKPOINT_ENCODER:
        raise LikenessError(f"wplus: {str(path)!r} holds an encoder of type {kind}, only {CHECKPOINT_ENCODER} is read")
    if type(size) is not int or size not in CHECKPOINT_SIZES:
        raise LikenessError(
            f"wplus: {str(path)!r}: opts has stylegan_size {size!r}, expected a power of two, "
            f"{CHECKPOINT_SIZES[0]} to {CHECKPOINT_SIZES[-1]}"
        )
    if (data := str(options.get("dataset_type", ""))).startswith("cars"):
        # Its images are cropped to 4:3 on both sides of the networks.
        raise LikenessError(f"wplus: {str(path)!r} is of {data}, only encoders of square aligned faces are read")
    for name, value in file["state_dict"].items():
        if not isinstance(name, str):
            raise LikenessError(f"wplus: {str(path)!r}: state_dict has a key of type {type(name).__name__}, not a name")
        if not isinstance(value, Tensor):
            raise LikenessError(f"wplus: {str(path)!r}: the entry {name} is no tensor")
    if not options.get("start_from_latent_avg", True):  # e4e's training leaves latent_avg out of such a file
        return {**file["state_dict"], "latent_avg": torch.zeros(row_count(size), CHECKPOINT_WIDTH)}, size
    if not isinstance(file.get("latent_avg"), Tensor):
        raise LikenessError(f"wplus: {str(path)!r} has no latent_avg, the mean code that its codes start from")
    return {**file["state_dict"], "latent_avg": file["latent_avg"]}, size


def _load_plainly(path: Path) -> Any:
    """What ``torch.save`` wrote, of tensors and plain values only.

    torch's own message is not shown to the user: it recommends to load such a file by running the code in it.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(max(map(len, _BEGINNINGS)))
        if beginning.startswith(_BEGINNINGS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LikenessError(f"wplus: cannot read {str(path)!r}: {first_line(error)}") from error
    except pickle.UnpicklingError as error:
        raise LikenessError(
            f"wplus: {str(path)!r} holds more than tensors and plain settings, or is damaged; it is not loaded, as it "
            "could run code: give a file of the plain state_dict, latent_avg and opts"
        ) from error
    except Exception as error:  # a damaged pickle makes torch stumble in any way
        raise LikenessError(f"wplus: {str(path)!r} is damaged, or no PyTorch checkpoint: get the file anew") from error
    raise LikenessError(f"wplus: {str(path)!r} is no PyTorch checkpoint: give the .pt file of an e4e encoder")


def _fill(source: str, encoder: E4E, generator: StyleGAN2, state: Mapping[str, Tensor]) -> Tensor:
    """Put the entries into both networks and return the mean code.

    Raises :class:`LikenessError` unless ``state`` has exactly the networks' entries, in their shapes and finite.
    """
    entries = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    entries |= {f"decoder.{k}": v for k, v in generator.state_dict().items()}
    entries["latent_avg"] = torch.empty(generator.rows, generator.width)
    wanted = {name: tuple(value.shape) for name, value in entries.items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    # Checked before the lists of names: a file of another size has hundreds of entries too few or too many.
    wrong = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    if wrong:
        name = wrong[0]
        raise LikenessError(
            f"wplus: {source!r} is of another size: {name} is {found[name]}, expected {wanted[name]} "
            f"({len(wrong)} such entries)"
        )
    problems = [
        f"{problem} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for problem, names in (
            ("lacks", sorted(wanted.keys() - found.keys())),
            ("has the unknown entry", sorted(found.keys() - wanted.keys())),
        )
        if names
    ]
    if problems:
        raise LikenessError(f"wplus: {source!r} {'; it '.join(problems)}")
    values = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    for name, value in values.items():
        if entries[name].is_floating_point() and not value.is_floating_point():
            raise LikenessError(f"wplus: {source!r}: {name} is of {value.dtype}, expected floating-point numbers")
        if not value.isfinite().all():
            raise LikenessError(f"wplus: {source!r}: {name} holds NaN or infinity: get the file anew")
    for prefix, network in (("encoder.", encoder), ("decoder.", generator)):
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}, assign=True
        )
    return values["latent_avg"]

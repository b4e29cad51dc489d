"""``adapter.safetensors``: only what a method trained. The metadata says which method and backbone it belongs to, and
the hash of all of it, so that a file that was damaged is found out when it is read."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from contracts.errors import LikenessError
from contracts.files import write_atomically

_FORMAT = "likeness-adapter-2"
_DIGEST = "sha256"
"""Key of the metadata with the :func:`adapter_identity`."""
_FORMAT_WITHOUT_DIGEST = "likeness-adapter-1"
"""What older versions wrote. It has another name, so that damage to the digest's own key never passes for one."""


def save_adapter(path: Path, adapter: nn.Module, metadata: dict[str, str]) -> None:
    """Write the adapter's weights and ``metadata``, whole or not at all.

    ``metadata`` must name the ``method`` and the ``backbone`` fingerprint. Raises :class:`LikenessError` when the file
    cannot be written. A file that was there before then stays as it was.
    """
    write_adapter(path, adapter.state_dict(), metadata)


def write_adapter(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """:func:`save_adapter` of tensors by name."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    told = {"format": _FORMAT, **metadata}
    try:
        write_atomically(path, save(tensors, metadata={**told, _DIGEST: adapter_identity(tensors, told)}))
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"adapter {str(path)!r} could not be written: {str(error).splitlines()[0]}") from error


def read_adapter(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata. Raises :class:`LikenessError` when the file is missing, damaged or no adapter."""
    try:
        if path.exists() and not path.is_file():
            raise SafetensorError("it is no file")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise LikenessError(f"no adapter at {str(path)!r}; train one with train.py") from None
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"{str(path)!r} is not a readable adapter: {str(error).splitlines()[0]}") from None
    formats = (_FORMAT, _FORMAT_WITHOUT_DIGEST)
    if metadata.get("format") not in formats or not {"method", "backbone"} <= metadata.keys():
        raise LikenessError(f"{str(path)!r} is a safetensors file but not an adapter of this framework")
    written = metadata.pop(_DIGEST, None)
    may_lack = metadata["format"] == _FORMAT_WITHOUT_DIGEST
    if written != adapter_identity(tensors, metadata) and not (written is None and may_lack):
        raise LikenessError(f"{str(path)!r} is damaged: it does not hold what was saved; copy it again, or train again")
    return tensors, metadata


def adapter_identity(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and values of the tensors and over the metadata, each in the order of names.

    A file may hold the same in another order, so its own hash says less.
    """
    digest = hashlib.sha256()
    for name, value in sorted(metadata.items()):
        digest.update(f"{len(name)}:{name}{len(value)}:{value}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{len(name)}:{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_adapter(path: Path, metadata: dict[str, str], method: str, backbone: str) -> None:
    """Raises :class:`LikenessError` when the file belongs to another method or backbone."""
    if metadata["method"] != method:
        raise LikenessError(f"{str(path)!r} was trained with method {metadata['method']}, not {method}")
    if metadata["backbone"] != backbone:
        raise LikenessError(
            f"{str(path)!r} was trained for backbone {metadata['backbone'][:12]}, this one is {backbone[:12]}; "
            "give the backbone it was trained with (--model.backbone)"
        )


def apply_adapter(path: Path, adapter: nn.Module, method: str, backbone: str) -> None:
    """Load the file into ``adapter``, strictly.

    Raises :class:`LikenessError` naming what does not fit: another method, another backbone, or other shapes.
    """
    tensors, metadata = read_adapter(path)
    check_adapter(path, metadata, method, backbone)
    wrong = misfit(adapter.state_dict(), tensors)
    if wrong:
        raise LikenessError(f"{str(path)!r} does not fit: {wrong}")
    adapter.load_state_dict(tensors)


def misfit(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Says which entry one of two states lacks or has in another shape, the first by name; empty where they agree."""
    ours, theirs = ({name: _shape(value) for name, value in state.items()} for state in (expected, found))
    wrong = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not wrong:
        return ""
    name = wrong[0]
    return f"{name} is {theirs.get(name, 'missing')}, expected {ours.get(name, 'nothing')} ({len(wrong)} such entries)"


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of a tensor; empty for anything else that a module's state holds."""
    return tuple(value.shape) if isinstance(value, Tensor) else ()

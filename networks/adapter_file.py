"""``adapter.safetensors``: only what a method trained. The metadata says which method and backbone it belongs to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from contracts.errors import LikenessError
from contracts.files import write_atomically


def save_adapter(path: Path, adapter: nn.Module, metadata: dict[str, str]) -> None:
    """Write the adapter's weights and ``metadata``, whole or not at all.

    ``metadata`` must name the ``method`` and the ``backbone`` fingerprint. Raises :class:`LikenessError` when the file
    cannot be written. A file that was there before then stays as it was.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in adapter.state_dict().items()}
    try:
        write_atomically(path, save(tensors, metadata={"format": "likeness-adapter-1", **metadata}))
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"adapter {str(path)!r} could not be written: {str(error).splitlines()[0]}") from error


def read_adapter(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata. Raises :class:`LikenessError` when the file is missing or is no adapter."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise LikenessError(f"no adapter at {str(path)!r}; train one with train.py") from None
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"{str(path)!r} is not a readable adapter: {str(error).splitlines()[0]}") from None
    if metadata.get("format") != "likeness-adapter-1" or not {"method", "backbone"} <= metadata.keys():
        raise LikenessError(f"{str(path)!r} is a safetensors file but not an adapter of this framework")
    return tensors, metadata


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

"""Names for weights: SHA-256 over the files that hold them."""

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from contracts.errors import LikenessError
from networks.weight_manifest import verify_if_listed

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
"""The folders of a pipeline that are loaded. Others, such as the safety checker, are neither fetched nor hashed."""
_PIPELINE = "model_index.json"
_SUFFIXES = (".safetensors", ".onnx", ".json", ".txt")
_VARIANT = re.compile(r"\.safetensors\.index\.\w+\.json|^(diffusion_pytorch_)?model\.\w+(-\d+-of-\d+)?\.safetensors")
"""Weights beside those that are loaded, such as the same ones in 16 bits: ``model.fp16.safetensors``."""
_FETCHED = ("*.json", "*.txt", "model.safetensors", "model-*-of-*.safetensors", "diffusion_pytorch_model.safetensors")
_FETCHED_OF_PART = (*_FETCHED, "diffusion_pytorch_model-*-of-*.safetensors")


def resolve_source(source: str, revision: str | None = None, pipeline: bool = False) -> Path:
    """The local folder of a model given as a folder or as a hub name (downloaded only when the hub is not offline).

    Of a ``pipeline`` only the :data:`PARTS` are fetched, of another model only its own files.

    Raises :class:`LikenessError` when there is no such folder and the hub cannot be asked, or when a
    file differs from the manifest beside the folder.
    """
    folder = Path(source)
    if folder.is_dir():
        verify_if_listed(folder)
        return folder
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise LikenessError(f"no model folder at {source!r}; give a folder or a hub name such as owner/name")
    from huggingface_hub import snapshot_download

    offline = os.environ.get("HF_HUB_OFFLINE", "1") != "0"
    try:
        files = fetched_files(pipeline)
        allowed, ignored = files["allow_patterns"], files.get("ignore_patterns")
        return Path(
            snapshot_download(
                source,
                revision=revision,
                local_files_only=offline,
                allow_patterns=allowed,
                ignore_patterns=ignored,
            )
        )
    except Exception as error:
        hint = "set HF_HUB_OFFLINE=0 to allow the download" if offline else str(error).splitlines()[0]
        raise LikenessError(f"model {source!r} is not on this machine: {hint}") from None


def fetched_files(pipeline: bool) -> dict[str, list[str]]:
    """Which files of a hub repository are fetched, as the hub's library is told."""
    if pipeline:
        return {"allow_patterns": [_PIPELINE, *(f"{part}/{name}" for part in PARTS for name in _FETCHED_OF_PART)]}
    return {"allow_patterns": list(_FETCHED), "ignore_patterns": ["*/*"]}  # a star crosses folders


def folder_fingerprint(folder: Path) -> str:
    """SHA-256 over names and contents of the weight and configuration files that are loaded from ``folder``."""
    if (folder / _PIPELINE).is_file():
        files = [folder / _PIPELINE, *(path for part in PARTS for path in (folder / part).glob("*"))]
    else:
        files = list(folder.glob("*") if (folder / "config.json").is_file() else folder.rglob("*"))
    files = sorted(p for p in files if p.is_file() and p.suffix in _SUFFIXES and not _VARIANT.search(p.name))
    if any(path.suffix == ".safetensors" for path in files):  # which is loaded then, whatever else is there
        files = [path for path in files if path.suffix != ".onnx"]
    if not files:
        raise LikenessError(f"no weights in {str(folder)!r}")
    return _digest(
        tuple((p.relative_to(folder).as_posix(), str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    )


def file_fingerprint(file: Path) -> str:
    """SHA-256 over the name and content of one file."""
    return _digest(((file.name, str(file), file.stat().st_size, file.stat().st_mtime_ns),))


@lru_cache(maxsize=32)
def _digest(files: tuple[tuple[str, str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, path, size, _ in files:
        digest.update(f"{name}\0{size}\0".encode())
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()

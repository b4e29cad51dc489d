"""Names for weights: SHA-256 over the files that hold them."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from contracts.errors import LikenessError
from networks.weight_manifest import verify_if_listed

_SUFFIXES = (".safetensors", ".onnx", ".json", ".txt")


def resolve_source(source: str, revision: str | None = None) -> Path:
    """The local folder of a model given as a folder or as a hub name (downloaded only when the hub is not offline).

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

    patterns = ["*.json", "*.txt", "*/*.json", "*/*.txt", "*.safetensors", "*/*.safetensors"]
    offline = os.environ.get("HF_HUB_OFFLINE", "1") != "0"
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns, local_files_only=offline))
    except Exception as error:
        hint = "set HF_HUB_OFFLINE=0 to allow the download" if offline else str(error).splitlines()[0]
        raise LikenessError(f"model {source!r} is not on this machine: {hint}") from None


def folder_fingerprint(folder: Path) -> str:
    """SHA-256 over relative names and contents of the weight and configuration files below ``folder``."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _SUFFIXES)
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

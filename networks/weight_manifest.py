"""The SHA-256 manifest that stands beside folders of weights, and the check of the files against it.

``manifest.json`` maps the paths below its own folder to sizes and hashes: ``{"files": {PATH: {"bytes", "sha256"}}}``.
"""

from functools import lru_cache
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import file_sha256, read_file
from contracts.strict_json import parse

NAME = "manifest.json"


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, modified: int) -> str:
    """The file's SHA-256, computed once for each size and time of change."""
    return file_sha256(path)


def verify(folder: Path) -> None:
    """Check every file that a manifest lists below ``folder``, which is the manifest's own folder or one inside it.

    Raises:
        LikenessError: a file is missing, cut short or changed, or the manifest is missing or unreadable. The message
            names the file and how to get it back.
    """
    folder = folder.resolve()
    home = next((parent for parent in (folder, *folder.parents) if (parent / NAME).is_file()), None)
    if home is None:
        raise LikenessError(f"{folder / NAME} is missing: restore it, or write it: `python -m pocket.models.manifest`")
    files = _read(home)
    if files is None:
        raise LikenessError(f"{home / NAME} is not a manifest of weights: restore it, for instance with git")
    listed = {name: entry for name, entry in files.items() if (home / name).is_relative_to(folder)}
    if not listed:
        raise LikenessError(f"{home / NAME} lists no file below {folder}")
    for name, (size, digest) in listed.items():
        _check(home / name, size, digest, f"restore it with git, or make {name.split('/')[0]!r} again")


def verify_if_listed(folder: Path) -> None:
    """:func:`verify` where the folder above ``folder`` has a manifest that lists it, which not all weights have."""
    home = folder.resolve().parent
    files = _read(home) if (home / NAME).is_file() else None
    if files is not None and any(name.startswith(f"{folder.resolve().name}/") for name in files):
        verify(folder)


def _read(home: Path) -> dict[str, tuple[int, str]] | None:
    """Size and hash by path; ``None`` when the file is something else."""
    try:
        files = parse(read_file(home / NAME).decode())["files"]
        return {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _check(path: Path, size: int, digest: str, remedy: str) -> None:
    if not path.is_file():
        raise LikenessError(f"{path} is missing: {remedy}")
    if (found := path.stat().st_size) != size:
        raise LikenessError(f"{path} has {found} bytes, the manifest says {size}: {remedy}")
    if (hashed := _digest(path, found, path.stat().st_mtime_ns)) != digest:
        raise LikenessError(f"{path} has SHA-256 {hashed}, the manifest says {digest}: {remedy}")

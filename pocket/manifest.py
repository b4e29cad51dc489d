"""The SHA-256 manifest of the shipped weights: ``python -m pocket.manifest`` writes it, ``verify`` checks by it."""

import hashlib
import json
from pathlib import Path

from contracts.errors import LikenessError
from pocket.paths import WEIGHTS
from pocket.training import atomic

NAME = "manifest.json"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build(folder: Path) -> dict[str, dict[str, int | str]]:
    """Size in bytes and SHA-256 of every file below ``folder``, by path relative to it, in sorted order.

    Hidden files and the manifest itself are left out.
    """
    files: dict[str, dict[str, int | str]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.as_posix() != NAME and not any(part.startswith(".") for part in name.parts):
            files[name.as_posix()] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return files


def write(folder: Path = WEIGHTS) -> Path:
    """Write the manifest of ``folder`` and return its path.

    Raises:
        LikenessError: there is nothing to list.
    """
    files = build(folder)
    if not files:
        raise LikenessError(f"{folder} holds no weights; make them with `python -m pocket.train`")
    with atomic(folder / NAME) as temporary:
        temporary.write_text(json.dumps({"files": files}, indent=1) + "\n")
    return folder / NAME


def verify(folder: Path = WEIGHTS) -> None:
    """Check every file that the manifest lists below ``folder``, which is the manifest's own folder or one inside it.

    Raises:
        LikenessError: a file is missing, cut short or changed, or the manifest is missing or unreadable. The message
            names the file and how to get it back.
    """
    folder = folder.resolve()
    home = next((parent for parent in (folder, *folder.parents) if (parent / NAME).is_file()), None)
    if home is None:
        raise LikenessError(f"{folder / NAME} is missing: restore it, or write it with `python -m pocket.manifest`")
    try:
        files = json.loads((home / NAME).read_text())["files"]
        expected = {home / name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LikenessError(f"{home / NAME} is not a manifest: restore it, for instance with git") from None
    listed = {path: entry for path, entry in expected.items() if path.is_relative_to(folder)}
    if not listed:
        raise LikenessError(f"{home / NAME} lists no file below {folder}")
    for path, (size, digest) in listed.items():
        if not path.is_file():
            raise LikenessError(f"{path} is missing: {_remedy(path.relative_to(home))}")
        if path.stat().st_size != size:
            raise LikenessError(
                f"{path} has {path.stat().st_size} bytes, the manifest says {size}: {_remedy(path.relative_to(home))}"
            )
        if (found := file_sha256(path)) != digest:
            raise LikenessError(
                f"{path} has SHA-256 {found}, the manifest says {digest}: {_remedy(path.relative_to(home))}"
            )


def _remedy(name: Path) -> str:
    return f"restore it with git, or make `{name.parts[0]}` again with `python -m pocket.train`"


if __name__ == "__main__":
    written = write()
    listed = json.loads(written.read_text())["files"]
    print(f"{written}: {len(listed)} files, {sum(entry['bytes'] for entry in listed.values()) / 1e6:.1f} MB")

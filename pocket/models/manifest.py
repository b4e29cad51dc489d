"""The SHA-256 manifest of the shipped weights: ``python -m pocket.models.manifest`` writes it.

``networks.weight_manifest.verify`` checks files by it, and every loader of weights does.
"""

import json
import sys
from pathlib import Path

from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import atomic_path, file_sha256
from networks.weight_manifest import NAME, verify
from pocket.models.paths import WEIGHTS

__all__ = ["NAME", "build", "verify", "write"]


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
    with atomic_path(folder / NAME) as temporary:
        temporary.write_text(json.dumps({"files": files}, indent=1) + "\n")
    return folder / NAME


@as_command
def main() -> int:
    """Write the manifest of the shipped weights and say what it lists; the exit code is 2 when there is nothing."""
    written = write()
    files = json.loads(written.read_text())["files"]
    print(f"{written}: {len(files)} files, {sum(entry['bytes'] for entry in files.values()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

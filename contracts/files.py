"""Files that are either whole under their name or not there, their hash, and the folder of caches."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """``cache_dir``, or ``$LIKENESS_CACHE``, or ``~/.cache/likeness``."""
    return Path(cache_dir or os.environ.get("LIKENESS_CACHE") or "~/.cache/likeness").expanduser()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """An empty file with a temporary name beside ``path``, for the block to write.

    When the block ends well, the file is flushed to the disk and takes the place of ``path``. When it does not, the
    temporary file is removed and ``path`` is as it was. Folders above are made, the umask decides who may read the
    file, and a link that somebody put in the way is replaced, never written through.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write ``data``, whole or piece by piece, through :func:`atomic_path`."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as indented JSON through :func:`atomic_path`; NaN and infinities are refused (``ValueError``)."""
    write_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

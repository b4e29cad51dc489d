"""Files that are either whole under their name or not there, their hash, and the folder of caches.

A folder may have been made by somebody else. Below a folder that was given to :func:`guard` nothing is written, cut or
deleted through a link, and what is read is a file and no pipe that never ends.
"""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from contracts.errors import LikenessError
from contracts.lock import try_lock

_BEGUN, _UNFINISHED = ".likeness-", ".part"
"""How the name of a file begins and ends that is being written."""
_roots: set[Path] = set()
_reaped: set[tuple[int, Path]] = set()


def guard(root: str | Path) -> Path:
    """``root``, from now on a folder below which no link is followed. It may itself be one, or lie behind one."""
    _roots.add(_absolute(root))
    return Path(root)


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """``cache_dir``, or ``$LIKENESS_CACHE``, or ``~/.cache/likeness``, guarded."""
    return guard(Path(cache_dir or os.environ.get("LIKENESS_CACHE") or "~/.cache/likeness").expanduser())


def refuse_links(folder: Path) -> None:
    """Raises :class:`LikenessError` where ``folder`` or one between it and its guarded root is a link."""
    folder = _absolute(folder)
    while folder not in _roots and not _roots.isdisjoint(folder.parents):
        if folder.is_symlink():
            raise LikenessError(f"{str(folder)!r} is a link, and nothing is written behind it: remove it")
        folder = folder.parent


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it; raises :class:`LikenessError` where it would lie behind a link."""
    refuse_links(folder)
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """An empty file with a temporary name beside ``path``, for the block to write.

    When the block ends well, the file is flushed to the disk and takes the place of ``path``. When it does not, the
    temporary file is removed and ``path`` is as it was. Folders above are made, the umask decides who may read the
    file, and a link that somebody put in the way is replaced, never written through. What killed processes left
    unfinished in the folder is deleted.

    Raises:
        LikenessError: the folder lies behind a link below a guarded root.
        OSError: it cannot be written; the error names ``path``.
    """
    make_folder(path.parent)
    if (place := (os.getpid(), path.parent)) not in _reaped:
        _reaped.add(place)
        reap(path.parent)
    temporary, handle = _begin(path.parent)
    try:
        yield temporary
        os.fsync(handle)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None:  # a full disk does not say what it is too full for
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()
        os.close(handle)


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write ``data``, whole or piece by piece, through :func:`atomic_path`."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as indented JSON through :func:`atomic_path`; NaN and infinities are refused (``ValueError``)."""
    write_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def open_to_append(path: Path) -> int:
    """A handle that reads ``path`` and writes at its end; the file and folders above are made where they are missing.

    Raises:
        LikenessError: it is a link or no file, or its folder lies behind a link below a guarded root.
    """
    make_folder(path.parent)
    return _open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)


def remove(path: Path) -> None:
    """Delete a file, or a link itself, if it is there; raises :class:`LikenessError` where it lies behind a link."""
    refuse_links(path.parent)
    path.unlink(missing_ok=True)


def reap(folder: Path) -> None:
    """Delete what killed processes left unfinished in ``folder``. Files that a living process writes are left alone."""
    for left in folder.glob(f"{_BEGUN}*{_UNFINISHED}"):
        with suppress(OSError):  # gone by now, or not ours
            handle = os.open(left, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if try_lock(handle, left):
                    left.unlink()
            finally:
                os.close(handle)


def open_to_read(path: Path) -> BufferedReader:
    """A file open for reading; raises as :func:`read_file`.

    Libraries that open a file by themselves wait for ever where it is a pipe: open and close it with this before.
    """
    return os.fdopen(_open_file(path, os.O_RDONLY), "rb")


def read_file(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read.
        LikenessError: it is a pipe or a device, or holds more than ``limit`` bytes.
    """
    with open_to_read(path) as file:
        if limit is not None and (size := os.fstat(file.fileno()).st_size) > limit:
            raise LikenessError(f"{str(path)!r} has {size} bytes, more than the {limit} that such a file may have")
        return file.read()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; raises as :func:`read_file`."""
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_file(path: Path, flags: int) -> int:
    """Open what must be a regular file; a pipe would make the process wait for ever."""
    if flags & os.O_NOFOLLOW and path.is_symlink():
        raise LikenessError(f"{str(path)!r} is a link, and nothing is written through it: remove it")
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if stat.S_ISREG(mode := os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    raise LikenessError(f"{str(path)!r} is a pipe or a device and no file")


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the links


def _begin(folder: Path) -> tuple[Path, int]:
    """A new file and its handle. It is locked, which tells other processes that its writer is alive."""
    while True:
        path = folder / f"{_BEGUN}{secrets.token_hex(8)}{_UNFINISHED}"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            if try_lock(handle, path):
                return path, handle
        except OSError:  # no locks here, and so nobody reaps
            return path, handle
        os.close(handle)  # it was reaped before it was locked

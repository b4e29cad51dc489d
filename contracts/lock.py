"""One process at a time in a folder. The system gives a lock back when its process ends, however that happens."""

import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from contracts.errors import LikenessError

LOCK = ".lock"
"""Name of the file in a folder that is in use; it says by whom."""
PATIENCE = 30.0
"""Seconds to wait for what a process that is gone has started, such as its loader workers."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Keep ``folder`` for this process while the block runs; the folder is made where it is missing, and goes again
    where the block left nothing in it.

    Of several processes that work together the first one takes the lock for all. What it starts by forking holds the
    lock with it. A lock whose process is gone is taken over. The file is never reached through a link.

    Raises:
        LikenessError: another process works in the folder, or nothing can be written there.
    """
    folder = Path(folder)
    path = folder / LOCK
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _take(path, folder)
    except OSError as error:
        raise LikenessError(f"{str(folder)!r} cannot be written to: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # what was worked on may have been moved meanwhile
            path.unlink()
            for above in made:
                above.rmdir()
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # else a forked process that outlives this one would keep it
        os.close(handle)


def try_lock(handle: int, path: Path) -> bool:
    """Lock the open file ``handle`` without waiting; False where another process holds it, or where ``path`` no longer
    names this file. Raises ``OSError`` where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _take(path: Path, folder: Path) -> int:
    """The open, locked file with this process's name in it."""
    until = time.monotonic() + PATIENCE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            if _is_free(handle, path):
                name = {"host": socket.gethostname(), "process": os.getpid(), "command": Path(sys.argv[0]).name}
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(name).encode(), 0)
                return handle
            host, process, command = _named(handle)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if not path.exists():
            continue  # given back this moment
        gone = host == socket.gethostname() and not _is_alive(process)
        if process and not gone:
            raise LikenessError(
                f"{str(folder)!r} is in use by {command} (process {process} on {host}): wait for it, end it, or take "
                f"another folder; if it no longer runs, delete {str(path)!r}"
            )
        if time.monotonic() > until:
            raise LikenessError(
                f"{str(folder)!r} is in use by what {command} (process {process} on {host}) has started; it is gone "
                "itself: end those processes"
            )
        time.sleep(0.1)


def _is_free(handle: int, path: Path) -> bool:
    try:
        return try_lock(handle, path)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    host, process, _ = _named(handle)  # without locks there is the name only
    return not process or (host == socket.gethostname() and not _is_alive(process))


def _named(handle: int) -> tuple[str, int, str]:
    """Host, process and command that the file names; nothing where it is empty or says something else."""
    try:
        name = json.loads(os.pread(handle, 4096, 0))
        return str(name["host"]), int(name["process"]), str(name["command"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", 0, ""


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # no such list of processes on this system
        return True
    return state[0] not in "ZX"

"""One command at a time writes into a results folder."""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from contracts.errors import LikenessError

NAME = ".lock"


class FolderLock:
    """Keeps a folder for the command that writes into it: from :meth:`take` on, to the end of the ``with`` block.

    The lock lies on the open file. So it ends with the process, however that ends, and processes that are forked inside
    the block share it. With the block the lock's file goes, and the folder if it was made for it and stayed empty. On a
    file system that knows no locks nobody is kept out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / NAME
        self._file: int | None = None
        self._made: list[Path] = []

    def __reduce__(self) -> tuple:  # a process that is started anew opens the file itself
        return FolderLock, (self._folder,)

    def __enter__(self) -> "FolderLock":
        """Make the folder if it is missing, and open the file; raises ``LikenessError`` where that cannot be."""
        self._made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        self._open()
        return self

    def take(self) -> None:
        """Keep the folder; raises ``LikenessError`` where another command has it."""
        while True:
            file = self._open() if self._file is None else self._file
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = os.pread(file, 200, 0).decode(errors="replace") or "another process"
                raise LikenessError(
                    f"{self._folder} is written by {who} now: wait until it is done, or take another --output"
                ) from None
            except OSError:
                return
            if self._is_current(file):
                os.ftruncate(file, 0)
                os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return
            os.close(file)  # the command that had it took the file away
            self._file = None

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        with suppress(OSError):
            fcntl.flock(
                self._file, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # fails where another command has it, which tidies up
            if self._is_current(self._file):
                self._path.unlink()
                for path in self._made:
                    path.rmdir()
        os.close(self._file)
        self._file = None

    def _open(self) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except (FileExistsError, NotADirectoryError) as error:
            raise LikenessError(
                f"{self._folder} is neither empty nor a results folder: take another --output"
            ) from error
        except OSError as error:
            raise LikenessError(f"--output: {self._folder} cannot be written: {error.strerror}") from error
        return self._file

    def _is_current(self, file: int) -> bool:
        """Whether the open file is the one that lies in the folder."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

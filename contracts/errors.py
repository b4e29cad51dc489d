"""The one exception that users are meant to read, and how several of them are told in one list."""

import sys
import traceback
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
REPORT = (
    "this is a fault of the program and not of yours: please report it, with the lines above, in the issue tracker of "
    "its repository"
)
"""Behind the traceback of what nobody foresaw."""
STOPPED = 130
"""Exit code of a command that Ctrl-C ended."""
SAVED = 143
"""Exit code of a training that was told to end, and saved its state: the same command goes on."""


class LikenessError(Exception):
    """Something the user can mend: one line that names the key, file or rank and says what to do.

    The commands print it as ``error: MESSAGE`` without a traceback and exit with code 2. The message of
    :meth:`Problems.tell` is a line for each thing, and each is printed so.
    """


def report_fault() -> int:
    """Print the traceback of what nobody foresaw, and where to report it; returns the exit code. Call it where the
    error was caught."""
    traceback.print_exc()
    print(f"error: {REPORT}", file=sys.stderr)
    return 1


class Problems:
    """What several steps find wrong, told in one list instead of one by one."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.lines = list(lines)

    def attempt(self, step: Callable[[], T]) -> T | None:
        """What ``step`` returns; ``None`` where it raised a :class:`LikenessError`, whose lines are kept."""
        try:
            return step()
        except LikenessError as error:
            self.lines += str(error).splitlines()
            return None

    def tell(self) -> None:
        """Raise :class:`LikenessError` with every line once, if there is one."""
        if self.lines:
            raise LikenessError("\n".join(dict.fromkeys(self.lines)))

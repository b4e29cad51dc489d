"""How a command ends: one line about what its user can mend, and an exit code."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from contracts.errors import STOPPED, LikenessError, report_fault

P = ParamSpec("P")


def as_command(main: Callable[P, int]) -> Callable[P, int]:
    """``main`` with an exit code for every way in which it can end.

    The code is what ``main`` returns; 2 after a line for each mistake of the user, a full disk and a file that
    may not be written among them; 130 after Ctrl-C; 1 after the traceback of what nobody foresaw.
    """

    @wraps(main)
    def ended(*arguments: P.args, **settings: P.kwargs) -> int:
        try:
            return main(*arguments, **settings)
        except LikenessError as error:
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)
            return 2
        except OSError as error:
            if error.errno is None:  # a library's own, which says nothing of a file
                return report_fault()
            where = f"{error.filename}: " if error.filename else ""
            print(f"error: {where}{error.strerror}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)  # a progress bar, which nobody has closed, has not ended its line
            return STOPPED
        except Exception:
            return report_fault()

    return ended

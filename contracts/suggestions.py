"""One line for a misspelt configuration key: what was wrong, and which key was probably meant."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# jsonargparse's words for a key that does not exist: on the command line, and in a file.
_UNKNOWN = (
    re.compile(r"unrecognized arguments: --(?P<key>[\w.]+)"),
    re.compile(r"Group '(?P<group>[\w.]+)' does not accept option '(?P<key>[\w.]+)'"),
    re.compile(r"(?:Key|option) '(?P<key>[\w.]+)' is not expected"),
    re.compile(r"Option '(?P<key>[\w.]+)' is not accepted"),
)


def with_suggestion(message: str, known: Iterable[str]) -> str:
    """The message on one line; if it names an unknown key, followed by the nearest of the ``known`` ones."""
    line = " ".join(message.split())
    for pattern in _UNKNOWN:
        if found := pattern.search(line):
            parts = found.groupdict()
            key = ".".join(filter(None, (parts.get("group"), parts["key"])))
            return line + nearest(key, known)
    return line


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean NAME?`` with the nearest of the ``known`` names; empty where none is near."""
    found = get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""

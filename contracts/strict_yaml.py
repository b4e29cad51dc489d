"""YAML that somebody else may have written, read with bounded time and memory."""

from pathlib import Path
from typing import Any

import yaml

from contracts.errors import LikenessError
from contracts.files import read_file

MAX_BYTES = 2**20
MAX_VALUES = 100_000
"""Values of a file, those that an alias repeats counted each time."""
MAX_DEPTH = 50
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        OSError: the file cannot be read.
        LikenessError: it is no YAML, a pipe or too large; holds a key twice, lists within lists without end, or aliases
            that stand for more than anybody writes.
    """
    name = repr(str(path))
    try:
        return parse_yaml(read_file(path, MAX_BYTES).decode())
    except UnicodeDecodeError:
        raise LikenessError(f"{name} is no UTF-8 text") from None
    except (yaml.YAMLError, ValueError) as error:  # the latter also for a date that does not exist
        raise LikenessError(f"{name} is no YAML: {' '.join(str(error).split())}") from None


def parse_yaml(text: str) -> Any:
    """What a YAML text holds; raises ``yaml.YAMLError`` or ``ValueError`` as :func:`read_yaml` does for a file."""
    _check_size(text)
    return yaml.load(text, Loader=_Loader)


def _check_size(text: str) -> None:
    """Go through the text's events, which takes no memory, before anything is built of them."""
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int, set[str] | None]] = []  # anchor, count before it, keys of a mapping so far
    count, turns = 0, [0]  # values so far; of each open collection the number of its parts
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands within what it names, or names nothing")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            keys = open_[-1][2] if open_ else None
            if keys is not None and turns[-1] % 2 == 0 and event.value != "<<":
                if event.value in keys:
                    raise ValueError(f"line {event.start_mark.line + 1}: the key {event.value!r} stands there twice")
                keys.add(event.value)
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count, set() if isinstance(event, yaml.MappingStartEvent) else None))
            turns.append(0)
            count += 1
            if len(open_) > MAX_DEPTH:
                raise ValueError(f"line {event.start_mark.line + 1}: it is nested deeper than {MAX_DEPTH}")
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, _ = open_.pop()
            turns.pop()
            if anchor:
                sizes[anchor] = count - before
        else:
            continue
        turns[-1] += 1
        if count > MAX_VALUES:
            raise ValueError(f"it stands for more than {MAX_VALUES:,} values")

"""``null`` for a setting that takes none: the parser lets it pass inside of classes, and it would fail much later."""

import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from contracts.errors import LikenessError
from datamodules.batches.subjects import EnrolmentSettings

_KINDS = {"data.enrolment": EnrolmentSettings}
"""Settings that are a dataclass or nothing."""


def refuse_nulls(key: str, value: Any) -> None:
    """Look through a part of the parsed configuration, as plain mappings, lists and values.

    Raises:
        LikenessError: a setting of a class is null whose type has no null. The message names it.
    """
    if isinstance(value, list):
        for one in value:
            refuse_nulls(key, one)
    if not isinstance(value, Mapping):
        return
    kind = _named(value["class_path"]) if "class_path" in value else _KINDS.get(key)
    inside = value.get("init_args") if "class_path" in value else value
    hints = _hints(kind)
    for name, given in (inside or {}).items():
        if given is None and not _takes_none(hints.get(name, Any)):
            raise LikenessError(f"{key}.{name} is null, which it cannot be: give a value, or leave it out")
        refuse_nulls(f"{key}.{name}" if key else name, given)


def _named(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    with suppress(ImportError, ValueError):
        return getattr(import_module(module), name, None)  # what the parser has imported by now
    return None


def _hints(kind: type | None) -> dict[str, Any]:
    if kind is None:
        return {}
    try:
        return typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # a library's types that are there for checkers only
        return {}


def _takes_none(hint: Any) -> bool:
    if isinstance(hint, typing.TypeVar) or hint in (Any, None, type(None), object):
        return True
    if typing.get_origin(hint) is typing.Annotated:
        return _takes_none(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(map(_takes_none, typing.get_args(hint)))
    return typing.get_origin(hint) is typing.Literal and None in typing.get_args(hint)

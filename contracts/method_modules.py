"""Modules of the user's own that hold methods: imported because ``--methods`` names them, and for no other reason."""

import importlib
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterable, Sequence
from typing import Any

from contracts.errors import LikenessError

HELP = "your own modules that hold methods or other classes of the configuration: my_package.my_method"
NAMEABLE = (
    *("callbacks", "contracts.settings", "datamodules", "lightning_modules", "networks", "training"),
    *("lightning", "pytorch_lightning", "torch"),
)
"""What a configuration may name classes of; of anything else only where ``--methods`` names it on the command line."""
_named: list[str] = []


class MethodsOption(Action):
    """``--methods`` in a parser that finds it already read. Only the command line counts: in a file it does nothing."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest=SUPPRESS, default=SUPPRESS, nargs="+", metavar="MODULE", help=HELP)

    def __call__(self, *_: object) -> None:
        """Nothing is left to do."""


def methods_of(arguments: Sequence[str]) -> list[str]:
    """The modules that a command line names with ``--methods``."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--methods", action="extend", nargs="+", default=[])
    return parser.parse_known_args(arguments)[0].methods


def import_methods(names: Iterable[str]) -> None:
    """Import the modules; from now on a run or a configuration may name what lies in them.

    Raises:
        LikenessError: there is no such module.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # it is there, but not what it imports itself
            raise LikenessError(
                f"--methods: there is no module {name!r}: give it with dots and without .py, as import would name it"
            ) from None
        if name not in _named:
            _named.append(name)


def refuse_class(path: str, named: Sequence[str] = ()) -> None:
    """Raises :class:`LikenessError` for the dotted path of a class that a configuration may not name; ``named`` are the
    modules that ``--methods`` names."""
    places = (*NAMEABLE, *named, *_named)
    if "." in path and not any(path.startswith(f"{place}.") for place in places):
        raise LikenessError(
            f"{path} is not one of this project's classes, and nothing was imported; "
            f"if it is yours, name its module: --methods {path.rpartition('.')[0]}"
        )


def allow_classes() -> None:
    """Let the parser import what a configuration may name and nothing else: it imports before it looks whether a class
    fits."""
    from jsonargparse import set_parsing_settings

    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*NAMEABLE, *_named])


def named_methods() -> tuple[str, ...]:
    """The modules that were named so far in this process."""
    return tuple(_named)


def is_named(module: str) -> bool:
    """Whether ``module`` was named, or a package that holds it."""
    return any(f"{module}.".startswith(f"{name}.") for name in _named)

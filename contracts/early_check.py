"""What is wrong with a training's command line and files, found from the sources before anything heavy is imported.

It knows a key to be wrong only where it can tell from the sources; all else is left to the parser. What a configuration
may name classes of is looked at here too, and again by the parser before it imports.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from contracts.errors import LikenessError
from contracts.method_modules import methods_of, refuse_class
from contracts.signatures import ClassSource, Settings, find_class, parse_file
from contracts.strict_yaml import parse_yaml, read_yaml

_PARTS = ("init_args", "dict_kwargs")
_CORE = "lightning.pytorch.cli.LightningCLI"
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def check_training(arguments: Sequence[str], command: Path) -> None:
    """Look through the arguments of ``command`` (``train.py``) and the files that they name.

    Raises:
        LikenessError: a key does not exist, a class may not be named, or a file cannot be read or is no YAML.
    """
    check, named = _Check(command), methods_of(arguments)
    for key, values in _options(arguments):
        for value in (*values, *([] if values else [None])):
            if key == "config":
                for name, part in _file(value).items():
                    check.look(f"{name}", part, named, f"{value}: ")
            elif key != "methods":
                check.look(key, _read(value), named, "")


def check_files(arguments: Sequence[str]) -> None:
    """Look through the files that ``--config`` names. Raises as :func:`check_training` does."""
    for key, values in _options(arguments):
        for value in values if key == "config" else ():
            _refuse_classes(_file(value))


class _Check:
    """The settings of a command, and which class each part of them has so far."""

    def __init__(self, command: Path) -> None:
        tree = parse_file(command)
        (call,) = (c for c in ast.walk(tree) if isinstance(c, ast.Call) and _has(c, "subclass_mode_model"))
        cli, model, data = (find_class(f"{command.stem}.{ast.unparse(n)}") for n in (call.func, *call.args))
        core = find_class(_CORE)
        assert cli is not None and model is not None and data is not None and core is not None
        self._types = dict(_options_of(cli))
        self._cli, self._methods = cli, model.module.partition(".")[0]
        self._known = {*self._types, *_names_in(core.node), "help"}
        self._classes = {"data": data, "trainer": find_class("lightning.pytorch.Trainer")}

    def look(self, key: str, value: Any, named: Sequence[str], where: str) -> None:
        """Check one option, its key with dots."""
        first, *rest = key.split(".")
        near = get_close_matches(first, self._known, n=1, cutoff=0.8)
        if first not in self._known and near:
            raise LikenessError(f"{where}there is no setting {key}; did you mean {near[0]}?")
        if rest and rest[-1] == "help":
            refuse_class(str(value), named)
            return
        for name in reversed(rest):
            value = {name: value}
        source = self._classes.get(first) or self._cli.group_of(self._types.get(first))
        self._walk(first, value, source, named, where)

    def _walk(self, key: str, value: Any, source: ClassSource | None, named: Sequence[str], where: str) -> None:
        if isinstance(value, list):
            for one in value:
                self._walk(f"{key}[]", one, None, named, where)
        if isinstance(value, str) and key in ("model", "trainer.callbacks", "data.first_stage") and "/" not in value:
            value = {"class_path": value}
        if not isinstance(value, Mapping):
            return
        if isinstance(path := value.get("class_path"), str):
            refuse_class(path, named)
            self._classes[key] = self._find(path)
        source = self._classes.get(key, source)
        settings = source.settings() if source is not None else None
        inside = [(name, part) for name, part in value.items() if name not in (*_PARTS, "class_path")]
        for part in _PARTS:
            more = value.get(part)
            inside += more.items() if isinstance(more, Mapping) else ()
        for name, part in inside:
            name = str(name)
            if settings is not None and name not in settings and "." not in name:
                raise LikenessError(where + _unknown(key, name, settings))
            group = source.group_of(settings[name]) if source and settings and name in settings else None
            self._walk(f"{key}.{name}", part, group, named, where)

    def _find(self, path: str) -> ClassSource | None:
        """A class by its path; a method also by its name alone."""
        return find_class(path) or find_class(f"{self._methods}.{path}")


def _refuse_classes(value: Any) -> None:
    if isinstance(value, Mapping):
        if isinstance(path := value.get("class_path"), str):
            refuse_class(path)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _refuse_classes(part)


def _unknown(key: str, name: str, settings: Settings) -> str:
    near = get_close_matches(name, settings, n=1)
    hint = f"did you mean {key}.{near[0]}?" if near else f"{key} has {', '.join(settings)}"
    return f"there is no setting {key}.{name}; {hint}"


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Key and values of every option; ``--key+`` appends to a list."""
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            key, given, value = argument[2:].partition("=")
            found.append((key.removesuffix("+"), [value] if given else []))
        elif found:
            found[-1][1].append(argument)
    return iter(found)


def _read(value: str | None) -> Any:
    """A value of the command line: lists and mappings as YAML has them, all else as it stands."""
    if value is None or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return parse_yaml(value)
    except (yaml.YAMLError, ValueError) as error:
        raise LikenessError(f"{value[:60]!r} is no YAML: {' '.join(str(error).split())}") from None


def _file(value: str | None) -> Mapping[str, Any]:
    """What a configuration file holds; nothing where the option names none, which the parser says."""
    path = Path(value or "").expanduser()
    if not value or not path.exists() or path.is_dir():
        return {}
    try:
        found = read_yaml(path)
    except OSError as error:
        raise LikenessError(f"--config: {value} cannot be read: {error.strerror}") from None
    if found is not None and not isinstance(found, Mapping):
        raise LikenessError(f"--config: {value} holds no keys")
    return {str(key): part for key, part in (found or {}).items()}


def _options_of(cli: ClassSource) -> Iterator[tuple[str, ast.expr | None]]:
    """Name and type of every option that a command line adds to Lightning's."""
    for call in ast.walk(cli.node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            kinds = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
            for name in call.args:
                if isinstance(name, ast.Constant) and str(name.value).startswith("--"):
                    yield str(name.value)[2:], kinds[0] if kinds else None


def _names_in(node: ast.AST) -> Iterator[str]:
    """Every word in a class that may be the name of an option: more than there are, and none too few."""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value.strip("-").isidentifier():
            yield one.value.strip("-")


def _has(call: ast.Call, name: str) -> bool:
    return any(keyword.arg == name for keyword in call.keywords)

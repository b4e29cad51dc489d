"""What a class can be configured by, read from its source: nothing is imported, which takes seconds and runs code."""

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
Settings = dict[str, ast.expr | None]
"""Type by name of a setting."""


@dataclass(frozen=True)
class ClassSource:
    """A class in its module."""

    module: str
    node: ast.ClassDef

    @property
    def is_dataclass(self) -> bool:
        """Whether it is marked as one, and so is a group of settings."""
        calls = [d.func if isinstance(d, ast.Call) else d for d in self.node.decorator_list]
        return any(isinstance(call, ast.Name) and call.id == "dataclass" for call in calls)

    def settings(self) -> Settings | None:
        """Its arguments; ``None`` where they cannot be told."""
        for part in self.node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                given = [*part.args.posonlyargs, *part.args.args, *part.args.kwonlyargs][1:]
                own = {argument.arg: argument.annotation for argument in given}
                above = self._above() if part.args.kwarg else {}
                return None if above is None or part.args.vararg else {**above, **own}
        above = self._above()
        if above is None or not self.is_dataclass:
            return above
        return {**above, **{name: kind for name, kind in self._fields() if "ClassVar" not in ast.dump(kind)}}

    def group_of(self, kind: ast.expr | None) -> "ClassSource | None":
        """The one dataclass of this project that a type names, such as that of ``JudgeSettings | None``."""
        found = [
            find_class(f"{self.module}.{name.id}") for name in ast.walk(kind or ast.Pass()) if type(name) is ast.Name
        ]
        groups = [one for one in found if one is not None and one.is_dataclass]
        return groups[0] if len(groups) == 1 else None

    def _fields(self) -> Iterator[tuple[str, ast.expr]]:
        for part in self.node.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                yield part.target.id, part.annotation

    def _above(self) -> Settings | None:
        """The settings of the classes that it is made of."""
        found: Settings = {}
        for base in reversed(self.node.bases):
            name = base.value if isinstance(base, ast.Subscript) else base
            source = find_class(f"{self.module}.{name.id}") if isinstance(name, ast.Name) else None
            if source is not None:
                if (above := source.settings()) is None:
                    return None
                found |= above
            elif not isinstance(name, ast.Name) or name.id not in ("ABC", "Generic", "Protocol", "object"):
                return None
        return found


def find_class(path: str, turns: int = 8) -> ClassSource | None:
    """The class at a dotted path, followed through imports; ``None`` where there is none, or no source of it.

    Its package is looked up and not imported.
    """
    module, _, name = path.rpartition(".")
    tree = _parse(module)
    if tree is None or not turns:
        return None
    for part in tree.body:
        if isinstance(part, ast.ClassDef) and part.name == name:
            return ClassSource(module, part)
        if isinstance(part, ast.ImportFrom):
            for alias in part.names:
                if (alias.asname or alias.name) == name:
                    return find_class(f"{_imported(module, part)}.{alias.name}", turns - 1)
    return None


def parse_file(path: Path) -> ast.Module:
    """The source of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_file(module: str) -> Path | None:
    """The file of a module, of this project or installed; ``None`` where it has none."""
    first, *rest = module.split(".")
    places = [ROOT]
    if not (ROOT / first).is_dir() and not (ROOT / f"{first}.py").is_file():
        found = importlib.util.find_spec(first) if first.isidentifier() else None
        places = [Path(place).parent for place in (found and found.submodule_search_locations) or ()]
    for place in places:
        path = place.joinpath(first, *rest)
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return None


@lru_cache(maxsize=256)
def _parse(module: str) -> ast.Module | None:
    file = module_file(module) if module else None
    try:
        return parse_file(file) if file else None
    except (OSError, SyntaxError, ValueError):
        return None


def _imported(module: str, part: ast.ImportFrom) -> str:
    """The module that an import statement in ``module`` names."""
    if not part.level:
        return part.module or ""
    file = module_file(module)
    parts = module.split(".") if file and file.name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*parts[: len(parts) - part.level + 1], *([part.module] if part.module else [])])

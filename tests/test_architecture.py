"""The house's import rule, read from the source: imports go downward only.

curate.py  train.py  generate.py  evaluate.py
  tools/
    curation/  leaderboard/
      training/  callbacks/
        lightning_modules/  datamodules/
          networks/  losses/  metrics/
            contracts/
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOOR = {"contracts"}
MECHANISMS = FLOOR | {"networks", "losses", "metrics"}
MAY_IMPORT = {
    "contracts": FLOOR,
    "networks": FLOOR | {"networks"},
    "losses": FLOOR | {"losses"},
    "metrics": FLOOR | {"metrics", "networks"},
    "lightning_modules": MECHANISMS | {"lightning_modules"},
    # The pocket world is data: it renders itself on first use.
    "datamodules": MECHANISMS | {"datamodules", "pocket"},
    # It trains too: a subject is enrolled before its images are generated.
    "leaderboard": MECHANISMS | {"lightning_modules", "datamodules", "callbacks", "training", "leaderboard", "pocket"},
    "callbacks": MECHANISMS | {"lightning_modules", "datamodules", "callbacks"},
    "training": MECHANISMS | {"lightning_modules", "datamodules", "callbacks", "training"},
    "curation": MECHANISMS | {"datamodules", "curation"},
    "tools": MECHANISMS | {"lightning_modules", "datamodules", "leaderboard", "pocket", "tools"},
}
CONFIGURATION = {"yaml", "jsonargparse"}
FREE = {"pocket", "claims", "performance"}
COMMANDS = {"curate", "train", "generate", "evaluate"}
OURS = set(MAY_IMPORT) | FREE | COMMANDS
NOTHING_IMPORTS = {"claims", "performance", "tools"} | COMMANDS
"""But ``claims``, which train and edit as a user would."""

FILES = sorted(
    path for package in sorted(set(MAY_IMPORT) | FREE) for path in (ROOT / package).rglob("*.py") if path.is_file()
) + sorted(ROOT.glob("*.py"))
KNOWN = set(FILES)


def _imports(path: Path) -> list[tuple[int, str, list[str]]]:
    """Line, absolute module name and imported names of every import of a file, those inside functions included."""
    found: list[tuple[int, str, list[str]]] = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found.append((node.lineno, module, [alias.name for alias in node.names]))
    return found


def _file(module: str) -> Path | None:
    """The file of ours that a module is, if it is one."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file in KNOWN), None)


def _imported_files(path: Path) -> set[Path]:
    """The files of ours that a file imports; where a name is a module of a package, that module and not the package."""
    found = set()
    for _, module, names in _imports(path):
        parts = [_file(f"{module}.{name}") or _file(module) for name in names] or [_file(module)]
        found.update(part for part in parts if part is not None)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward_only(path: Path) -> None:
    here = path.relative_to(ROOT)
    package = here.parts[0] if len(here.parts) > 1 else here.stem
    wrong = []
    for line, module, _ in _imports(path):
        top = module.split(".")[0]
        if top == "torchvision":
            wrong.append(
                f"{here}:{line} imports torchvision, for which there is no CPU build: use PIL, OpenCV or torch"
            )
        elif top in OURS and package in MAY_IMPORT and top not in MAY_IMPORT[package]:
            wrong.append(f"{here}:{line} imports {module}: {package}/ may import {sorted(MAY_IMPORT[package])} of ours")
        elif top in NOTHING_IMPORTS and top != package and package != "claims":
            wrong.append(f"{here}:{line} imports {module}, which stands above everything")
        elif package == "contracts" and top not in OURS | CONFIGURATION | {"torch"} | sys.stdlib_module_names:
            wrong.append(
                f"{here}:{line} imports {module}: contracts/ imports torch, what reads configurations and nothing else"
            )
        elif package != "tests" and top == "tests":
            wrong.append(f"{here}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not through others either, and not for a type checker alone: each file can be read after those it imports."""
    try:
        TopologicalSorter({path: _imported_files(path) for path in FILES}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(str(path.relative_to(ROOT)) for path in reversed(error.args[1])), pytrace=False)


def test_every_root_folder_with_code_is_one_of_the_house() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/*.py")}
    assert folders <= set(MAY_IMPORT) | FREE | {"tests"}


def test_no_root_folder_shadows_a_package() -> None:
    """Python puts the folder of ``train.py`` first in its path, so a folder ``datasets`` would hide the library."""
    # Wheels that install a top-level folder `tests` or `docs` by mistake hide nothing that anybody imports.
    installed = set(metadata.packages_distributions()) - {"tests", "docs"}
    shadowing = installed | set(sys.stdlib_module_names) | {"datasets", "evaluate", "tokenizers", "types"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name.isidentifier()}
    assert not folders & shadowing

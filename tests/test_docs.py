"""What the documentation names exists: options, configuration keys, modules, files, make targets, links. No command is
run: each one is parsed by its own parser and stopped there."""

import argparse
import ast
import importlib
import inspect
import re
import shlex
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

import jsonargparse
import pytest
import yaml
from lightning.pytorch import Trainer

from contracts import method_modules
from contracts.settings import GenerationSettings, JudgeSettings, ProtocolSettings
from curation.settings import CurationSettings
from datamodules.spotdiff10k import SpotDiff10kDataModule
from lightning_modules import PersonalisationModule
from tests.helpers.markdown import Page, Text, anchors, commands, inline_code, links, read_page

ROOT = Path(__file__).parents[1]
PAGES = [read_page(path) for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])]
PRESENT = [page for page in PAGES if page.path.name != "CHANGELOG.md"]  # it may name what is gone
KEYS = {
    "model": PersonalisationModule,
    "data": SpotDiff10kDataModule,
    "trainer": Trainer,
    "judges": JudgeSettings,
    "protocol": ProtocolSettings,
}
"""The classes whose constructor arguments are the keys of a configuration, by the part that they stand in."""
WRITTEN = (ROOT / ".gitignore").read_text().split()
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
FOLDERS -= {name.strip("/") for name in WRITTEN}
WITHOUT_ARGUMENTS = ("pocket.models.manifest",)
STAND_INS = {
    "my_method.yaml": "configs/pocket/spotdiff.yaml",
    "runs/spotdiff-search/best.yaml": "configs/trainer/cpu.yaml",
}
"""Files of the reader's own in the pages' commands, and what is parsed in their place."""
PROGRAMS = ("python", "make", "torchrun", "srun")


class Parsed(BaseException):
    """Raised in place of what a command would do. No ``except Exception`` of the command catches it."""


@pytest.fixture
def stop_after_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every parser parse, and stop the command there."""

    def stopping(parse: Callable[..., Any]) -> Callable[..., Any]:
        def parse_and_stop(parser: Any, *arguments: Any, **options: Any) -> Any:
            parse(parser, *arguments, **options)
            raise Parsed

        return parse_and_stop

    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        monkeypatch.setattr(parser, "parse_args", stopping(parser.parse_args))


def in_a_block() -> Iterator[Text]:
    """Every command of the pages' code blocks; a block that names no shell may hold something else."""
    for page in PRESENT:
        for block in page.blocks:
            if block.language in ("bash", "sh", "console", "text"):
                try:
                    found = list(commands(block))
                except ValueError:  # quotes that do not close: no shell commands
                    continue
                shell = block.language != "text"
                yield from (c for c in found if shell or program(shlex.split(c.text))[:1] in [[p] for p in PROGRAMS])


def program(words: list[str]) -> list[str]:
    """The words of a command without the variables that are set for it and without what launches it."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:1] in (["srun"], ["torchrun"]):
        script = next(at for at, word in enumerate(words) if word.endswith(".py"))
        words = ["python", *words[script:]]
    return words


def check_command(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fail where the command names a script, module, option, value or target that is not there."""
    words = program(shlex.split(command))
    match words:
        case ["make", *rest]:
            check_make(rest)
        case ["python", "-m", module, *rest]:
            spec = importlib.util.find_spec(module)
            assert spec is not None, f"no module {module}"
            name = f"{module}.__main__" if spec.submodule_search_locations is not None else module
            check_parses(name, rest, monkeypatch, capsys)
        case ["python", script, *rest] if script.endswith(".py"):
            assert (ROOT / script).is_file(), f"no script {script}"
            check_parses(script.removesuffix(".py"), rest, monkeypatch, capsys)
        case [other, *_]:
            assert other.startswith(".venv/bin/") or other in ("conda", "git"), f"no command of ours: {other}"
    for word in command.split():
        check_path(word.strip("'\""))


def check_parses(
    module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the command's own ``main`` up to the end of its parser."""
    command = importlib.import_module(module)
    if module in WITHOUT_ARGUMENTS:
        assert not arguments, f"{module} takes no arguments"
        return
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(method_modules, "_named", [])
    for name in ("my_package", "my_package.my_method"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys, "argv", [module, *(STAND_INS.get(word, word) for word in arguments)])
    try:
        code = command.main()
    except Parsed:
        return
    except SystemExit as error:
        code = error.code
    pytest.fail(f"exit code {code}: {capsys.readouterr().err.strip()[-400:]}")


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, _ = word.partition("=")
        found = f"$({name})" in makefile if is_variable else re.search(rf"^{name}:", makefile, re.MULTILINE)
        assert found, f"the Makefile has no {name}"


def check_path(word: str) -> None:
    """A word that begins with a folder of the repository must be there."""
    path = word.rpartition("=")[2].rstrip("/").partition("::")[0]
    named = path.partition("/")[0] in FOLDERS and "/" in path and path not in WRITTEN
    if named and not re.search(r"[<>{}()]|\.\.\.", path):
        assert list(ROOT.glob(path)), f"{path} is not in the repository"


def has_key(kind: Any, names: list[str]) -> bool:
    """Whether ``names`` lead through the constructor arguments of ``kind``, or of a class derived from it."""
    if not names or kind in (Any, dict):
        return True
    if typing.get_origin(kind) is dict:
        return True
    if isinstance(kind, UnionType) or typing.get_origin(kind) is not None:
        return any(has_key(inner, names) for inner in typing.get_args(kind))
    if not inspect.isclass(kind) or kind.__module__ == "builtins":
        return False
    if names[0] in ("class_path", "init_args"):
        return has_key(kind, names[1:])
    for owner in [kind, *all_subclasses(kind)]:
        hints = typing.get_type_hints(owner if is_dataclass(owner) else owner.__init__)
        known = {f.name for f in fields(owner)} if is_dataclass(owner) else set(inspect.signature(owner).parameters)
        if names[0] in known and has_key(hints.get(names[0], Any), names[1:]):
            return True
    return False


def all_subclasses(kind: type) -> list[type]:
    return [inner for direct in kind.__subclasses__() for inner in [direct, *all_subclasses(direct)]]


def plain_options() -> set[str]:
    """The options that the sources of the commands add, without those of a configuration."""
    sources = [ROOT / name for name in ("train.py", "training/cli.py", "evaluate.py", "generate.py", "curate.py")]
    for folder in ("claims", "performance", "pocket", "tools"):
        sources += (ROOT / folder).rglob("*.py")
    text = "\n".join(path.read_text() for path in sources if path.is_file())
    settings = {f"--{field.name}" for kind in (GenerationSettings, CurationSettings) for field in fields(kind)}
    return set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", text)) | settings | {"--config", "--trainer.devices"}


PLAIN_OPTIONS = plain_options()


def check_inline(code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fail where inline code names an option, a key, a command or a file that is not there."""
    if re.match(r"(python|make) ", code) and "..." not in code:
        check_command(code, monkeypatch, capsys)
        return
    for name in re.findall(r"(?<!\S)(--[\w.-]+)", code):
        part, *names = name.removeprefix("--").split(".")
        known = has_key(KEYS[part], names) if names and part in KEYS else name in PLAIN_OPTIONS
        assert known, f"no option {name}"
    if key := re.match(r"(model|data|trainer|judges|protocol)((?:\.\w+)+)(?=$|[ :=])", code):
        assert has_key(KEYS[key[1]], key[2].removeprefix(".").split(".")), f"no key {key[0]}"
    for word in code.split():
        check_path(word.rstrip(",;:"))


# A command that stands on several pages is parsed once.
@pytest.mark.parametrize("command", {command.text: command for command in in_a_block()}.values(), ids=str)
@pytest.mark.usefixtures("stop_after_parsing")
def test_commands(command: Text, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    check_command(command.text, monkeypatch, capsys)


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.path.name)
@pytest.mark.usefixtures("stop_after_parsing")
def test_inline_code(page: Page, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for code in inline_code(page):
        try:
            check_inline(code.text, monkeypatch, capsys)
        except (AssertionError, pytest.fail.Exception) as error:
            wrong.append(f"{code}: {code.text}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_links(page: Page) -> None:
    wrong = []
    for link in links(page):
        target, _, anchor = link.text.partition("#")
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path = (page.path.parent / target).resolve() if target else page.path
        if not path.exists() or (anchor and anchor not in anchors(read_page(path))):
            wrong.append(f"{link}: {link.text}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.path.name)
def test_python_and_yaml(page: Page) -> None:
    """Examples are valid, and what they import from the repository is there."""
    for block in page.blocks:
        if block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FOLDERS:
                    module = importlib.import_module(node.module or "")
                    missing = [name.name for name in node.names if not hasattr(module, name.name)]
                    assert not missing, f"{block}: {node.module} has no {missing}"


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --config configs/pocket/spotdiff.yaml --trainer.devicse 2",
        "python train.py --config configs/pocket/spotdiff.yaml --model.tokesn 2",
        "python train.py --config configs/pocket/spotdif.yaml",
        "python evaluate.py --config configs/evaluation/pocket.yaml --rusn runs/spotdiff --output results",
        "python evaluate.py --stage reprot --output results",
        "python generate.py --run runs/spotdiff --phtoo me.jpg --prompts 'a <subject>' --output results/me",
        "python evalute.py --stage report --output results",
        "python -m claims.spotdiff --rnu runs/spotdiff",
        "python -m claims.spotdif --run runs/spotdiff",
        "python -m tools.export_subject --run runs/sefi_ide --subject s0225 --outptu s0225.safetensors",
        "python -m tools.edit_faces --run pocket/weights/adapters/pidif --faces pocket/weights/faces_b --output edits",
        "make demmo",
        "make test ARG=tests",
        "pyhton train.py",
    ],
)
@pytest.mark.usefixtures("stop_after_parsing")
def test_a_misspelt_word_of_a_command_is_found(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(command, monkeypatch, capsys)


@pytest.mark.parametrize(
    "code", ["--model.tokesn 2", "data.enrolment.propmts", "--photto", "configs/pockt/spotdiff.yaml"]
)
@pytest.mark.usefixtures("stop_after_parsing")
def test_a_misspelt_name_in_the_prose_is_found(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_inline(code, monkeypatch, capsys)

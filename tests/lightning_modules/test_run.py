"""A run folder is read in one place, and what is wrong with it is one line."""

from pathlib import Path

import pytest

from contracts import method_modules
from contracts.errors import LikenessError
from contracts.files import file_sha256
from lightning_modules import SpotDiff
from lightning_modules.run import Run
from networks.adapter_file import adapter_identity
from pocket.models.paths import WEIGHTS

SHIPPED = {
    "pidiff": "f3581f632d4b7ac49e9d7c24befdb088b32ce0a96a7823b39df02b9aac14333e",
    "sefi_ide": "ce2dff87dd0dca409c5e894e4a8519305eaf1c6a4b1a96f9d62e6f3e18990d78",
    "spotdiff": "5c55977e7c5a40d636c10d75c7f02d5919d33c664f1082c65db952f13a0cd8a0",
}
"""Hash of the settings by adapter, as results folders have it written down."""


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_runs_read_as_they_always_did(name: str) -> None:
    run = Run(WEIGHTS / "adapters" / name)
    assert run.settings_hash == SHIPPED[name]
    assert run.adapter_sha256 == adapter_identity(*run.adapter())
    assert run.is_adapter(run.adapter_sha256)
    assert run.is_adapter(file_sha256(run.adapter_file)), "as older results have it"
    assert not run.is_adapter("0" * 64)
    assert run.method.__name__ == run.manifest["method"] == run.adapter()[1]["method"]
    assert run.arguments["backbone"] and run.data["resolution"] == 64


def test_other_arguments_leave_the_adapter_of_a_step() -> None:
    run = Run(WEIGHTS / "adapters" / "spotdiff", step=300)
    assert run.with_arguments(scale=0.5).adapter_file == run.adapter_of(300)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (None, "it has no config.yaml"),
        (b"model: [", "config.yaml is damaged (it is no YAML: while parsing"),
        (b"seed_everything: 2026-02-31", "config.yaml is damaged (it is no YAML: day is out of range"),
        ("model: {class_path: Zoë}".encode("latin-1"), "config.yaml is damaged (it is not UTF-8 text)"),
        (b"", "config.yaml is damaged (it holds no keys)"),
        (b"- model", "config.yaml is damaged (it holds no keys)"),
        (b"data: {}", "config.yaml is damaged (model is missing or holds no keys)"),
        (b"model: SpotDiff", "config.yaml is damaged (model is missing or holds no keys)"),
        (b"model: {init_args: {}}", "config.yaml is damaged (model.class_path is missing)"),
        (b"model: {class_path: a.B, init_args: 3}", "config.yaml is damaged (model.init_args holds no keys)"),
        (b"model: {class_path: a.B, init_args: {x: 2026-02-03}}", "(model.init_args: Object of type date is not JSON"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_named(tmp_path: Path, written: bytes | None, reason: str) -> None:
    if written is not None:
        (tmp_path / "config.yaml").write_bytes(written)
    with pytest.raises(LikenessError) as raised:
        _ = Run(tmp_path).settings_hash
    line = str(raised.value)
    assert line.startswith(f"{str(tmp_path)!r} is not a run folder of train.py: ") and reason in line
    assert "\n" not in line


def test_a_configuration_is_utf_8_whatever_the_machine_prefers(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: {source: Bücher}", encoding="utf-8")
    assert Run(tmp_path).data == {"source": "Bücher"}


def test_a_run_without_data_or_adapter_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {class_path: lightning_modules.SpotDiff}")
    run = Run(tmp_path)
    with pytest.raises(LikenessError, match=r"config\.yaml is damaged \(data is missing or holds no keys\)"):
        _ = run.data
    with pytest.raises(LikenessError, match=r"no adapter at .*; train one with train.py"):
        _ = run.adapter_sha256


def test_arguments_that_the_method_lacks_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {class_path: lightning_modules.SpotDiff, init_args: {scale: 0.7}}")
    assert Run(tmp_path).with_arguments(scale=0.5).arguments == {"scale": 0.5}
    with pytest.raises(LikenessError, match=r"SpotDiff, the method of .*, has no argument 'colour'"):
        Run(tmp_path).with_arguments(colour="blue")
    for arguments, told in (
        ({"scale": "much"}, "float"),
        ({"scale": None}, "float"),
        ({"orthogonality": 1}, "Literal"),
    ):
        with pytest.raises(LikenessError, match=f"takes {told}.* as '{next(iter(arguments))}', not "):
            Run(tmp_path).with_arguments(**arguments)


def test_types_for_type_checkers_only_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(SpotDiff):
        def __init__(self, scale: "Known" = 1.0) -> None:  # type: ignore[name-defined] # noqa: F821
            raise NotImplementedError

    (tmp_path / "config.yaml").write_text("model: {class_path: lightning_modules.SpotDiff}")
    monkeypatch.setattr(Run, "method", Theirs)
    assert Run(tmp_path).with_arguments(scale=0.5).arguments == {"scale": 0.5}


def test_a_method_of_others_is_imported_only_when_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may hold code; that its configuration names it is no reason to run it."""
    monkeypatch.setattr(method_modules, "_named", [])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "methods_of_run").mkdir()
    (tmp_path / "methods_of_run" / "mine.py").write_text(
        "from pathlib import Path\n"
        "from lightning_modules.spotdiff import SpotDiff\n"
        "Path(__file__).with_name('imported').touch()\n"
        "class Mine(SpotDiff): ...\n"
    )
    imported = tmp_path / "methods_of_run" / "imported"
    (tmp_path / "config.yaml").write_text("model: {class_path: methods_of_run.mine.Mine}")
    with pytest.raises(LikenessError, match=r"if it is yours, name its module: --methods methods_of_run\.mine$"):
        _ = Run(tmp_path).method
    assert not imported.exists()
    method_modules.import_methods(["methods_of_run.mine"])
    assert Run(tmp_path).method.__name__ == "Mine" and imported.exists()
    (tmp_path / "config.yaml").write_text("model: {class_path: methods_of_run.minecraft.Mine}")
    with pytest.raises(LikenessError, match=r"name its module: --methods methods_of_run\.minecraft$"):
        _ = Run(tmp_path).method


@pytest.mark.parametrize("name", ["nowhere_at_all", "yaml.nowhere", "mine.py", "folder/mine"])
def test_a_module_that_is_not_there_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method_modules, "_named", [])
    with pytest.raises(LikenessError, match=f"--methods: there is no module '{name}': give it with dots"):
        method_modules.import_methods([name])
    assert method_modules.named_methods() == ()


def test_what_a_named_module_lacks_itself_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import nowhere_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        method_modules.import_methods(["needs_more"])

"""Names that people give to runs and subjects, and runs that are damaged."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from contracts.errors import LikenessError
from contracts.protocol import check_name
from leaderboard.plan.entries import find_runs
from networks.adapter_file import write_adapter

UNSAFE = ["", ".", "..", "../x", "x/../y", "/x", "a/b", "a\\b", 'a"b', "a'b", "a b", "a\nb", "a\0b", "-x", "x\n", "<b>"]
UNSAFE += ["😀", "naïve", "שלום", "\u202ex", "a\u200bb"]  # the last two: turned around, and with nothing to see inside


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run, as far as this module looks."""
    folder = tmp_path / "run"
    write_adapter(folder / "adapter.safetensors", {"w": torch.ones(2)}, {"method": "SpotDiff", "backbone": "b" * 64})
    write_config(folder)
    return folder


def write_config(folder: Path, **arguments: object) -> None:
    model = {"class_path": "lightning_modules.SpotDiff", "init_args": arguments}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model}))


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_a_name_that_is_not_safe_in_a_path_or_a_page_is_refused(run: Path, name: str) -> None:
    with pytest.raises(LikenessError) as error:
        find_runs([given := f"{name}={run}"])
    assert str(error.value) == f"--runs: there is no folder {given!r}"
    assert str(error.value).isprintable()
    if name != "-x":  # a subject's id never begins a file name's path or an option
        with pytest.raises(LikenessError, match=r"subject id .* must be made of a-z, 0-9, _ and - only") as error:
            check_name("subject", name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["-x", ".x", "a b", "a=b", "<b>", "naïve", "a\nb"], ids=ascii)
def test_a_folder_whose_name_is_no_label_needs_one(run: Path, name: str) -> None:
    folder = run.rename(run.with_name(name))
    with pytest.raises(LikenessError, match=r"^--runs: .* is no label: a label is made of letters, digits") as error:
        find_runs([str(folder)])
    assert repr(name) in str(error.value)
    assert [(r.entry.label, r.run.folder) for r in find_runs([f"x={folder}"])] == [("x", folder)]


@pytest.mark.parametrize("name", ["a", "s0001", "anna-2", "x_y"])
def test_plain_names_are_taken(run: Path, name: str) -> None:
    check_name("subject", name)
    assert [r.entry.label for r in find_runs([f"{name}={run}"])] == [name]


def test_a_label_that_is_taken_is_named(run: Path) -> None:
    assert [r.entry.label for r in find_runs([str(run), f"other={run}"])] == ["run", "other"]
    for taken in ([str(run), str(run)], [f"a={run}", f"a={run}"], [f"prompt-only={run}"], [f"real-photo={run}"]):
        with pytest.raises(LikenessError, match=f"label .* is taken: give it another one with LABEL={run}"):
            find_runs(taken)


def test_an_entry_says_with_which_settings_it_generates(run: Path) -> None:
    """Where the base model lies is none of them: folders are moved."""

    def settings(**arguments: object) -> str:
        write_config(run, **arguments)
        return find_runs([str(run)])[0].entry.settings

    first = settings(backbone="here", scale=1.0)
    assert len(first) == 64 and settings(backbone="there", scale=1.0) == first != settings(backbone="here", scale=1.2)
    (run / "config.yaml").unlink()
    with pytest.raises(LikenessError, match=r"is not a run folder of train\.py"):
        find_runs([str(run)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ broken", "manifest.json' is damaged (JSONDecodeError"),
        ("", "manifest.json' is damaged (JSONDecodeError"),
        ("[1]", "manifest.json' is damaged (it holds no object)"),
        ('{"loss": NaN}', "manifest.json' is damaged (NoNumber: NaN)"),
        ('{"enrol_seconds": 1e999}', "manifest.json' is damaged (NoNumber: 1e999)"),
        ('{"enrol_seconds": "fast"}', "manifest.json: enrol_seconds is 'fast', it must be a number"),
        ('{"trainable_parameters": 1.5}', "manifest.json: trainable_parameters is 1.5, it must be a whole number"),
    ],
)
def test_a_damaged_manifest_is_one_line(run: Path, text: str, message: str) -> None:
    (run / "manifest.json").write_text(text)
    with pytest.raises(LikenessError) as error:
        find_runs([str(run)])
    assert message in str(error.value) and str(run) in str(error.value) and "\n" not in str(error.value)


def test_costs_may_be_unknown_or_nothing(run: Path) -> None:
    manifest = {"enrol_seconds": 0.0, "peak_memory_bytes": None}
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert find_runs([str(run)])[0].entry.manifest == manifest

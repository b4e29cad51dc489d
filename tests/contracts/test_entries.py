from pathlib import Path

import pytest

from contracts.entries import NamedFolder, parse_named_folder
from contracts.errors import LikenessError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, which is the home folder too, with folders of odd names."""
    for name in ("plain", "lr=0.1", "a=b=c", "plain@7", "sub/plain", "ü", "-x", ".x"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "label", "path", "step"),
    [
        ("plain", "plain", "plain", None),
        ("sub/plain/", "plain", "sub/plain", None),
        ("mine=plain", "mine", "plain", None),
        ("my.run_1-b=plain", "my.run_1-b", "plain", None),
        ("mine=lr=0.1", "mine", "lr=0.1", None),
        ("mine=a=b=c", "mine", "a=b=c", None),
        ("mine=a=b=c@4", "mine", "a=b=c", 4),
        ("plain@5", "plain-5", "plain", 5),
        ("mine=plain@5", "mine", "plain", 5),
        ("mine=plain@7", "mine", "plain@7", None),
        ("mine=plain@7@9", "mine", "plain@7", 9),
        ("mine=nowhere", "mine", "nowhere", None),
    ],
)  # fmt: skip
def test_a_word_names_a_folder(here: Path, argument: str, label: str, path: str, step: int | None) -> None:
    assert parse_named_folder(argument, "--runs", steps=True) == NamedFolder(label, Path(path), step)


@pytest.mark.parametrize("spelling", ["{}", "./{}", "../{here}/{}", "{home}/{}", "~/{}"])
@pytest.mark.parametrize("name", ["plain", "sub/plain"])
def test_the_same_folder_in_every_spelling(here: Path, spelling: str, name: str) -> None:
    given = spelling.format(name, here=here.name, home=here)
    for word, label in ((given, "plain"), (f"mine={given}", "mine")):
        found = parse_named_folder(word, "--images")
        assert found.label == label and found.path.resolve() == here / name and found.step is None


@pytest.mark.parametrize("name", ["lr=0.1", "a=b=c"])
def test_a_path_that_exists_wins_over_a_label(here: Path, name: str) -> None:
    for spelling in (name, f"./{name}", f"{here}/{name}", f"~/{name}"):
        with pytest.raises(LikenessError, match=r"^--runs: '.*' is no label.*give one with LABEL="):
            parse_named_folder(spelling, "--runs")
        assert parse_named_folder(f"mine={spelling}", "--runs").path.resolve() == here / name


@pytest.mark.parametrize("word", ["ü", "-x", ".x", "lr=0.1", "=plain", "a b=plain", "mine=", "plain@7", "plain@last"])
def test_a_folder_whose_name_is_no_label_needs_one(here: Path, word: str) -> None:
    with pytest.raises(LikenessError, match=r"^--runs: ") as error:
        parse_named_folder(word, "--runs")
    assert "\n" not in str(error.value)


def test_a_step_is_one_only_where_there_are_steps(here: Path) -> None:
    assert parse_named_folder("mine=plain@5", "--images").path == Path("plain@5")

"""Several trainings under one label: which may be, where they lie, and what the board makes of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from contracts.errors import LikenessError
from evaluate import main
from leaderboard.plan.entries import RunEntry, find_run
from leaderboard.plan.trainings import check_trainings, in_their_folders
from leaderboard.report.scored import read_scored
from leaderboard.report.statistics import compare
from leaderboard.report.tables.dataframe import to_csv
from leaderboard.report.tables.head_to_head import compare_entries
from leaderboard.report.tables.latex import to_latex
from leaderboard.report.tables.markdown import summary
from leaderboard.results.anchors import LABELS
from leaderboard.results.folder import Results
from tests.helpers.boards import IDENTITY, KINDS, SIX, board_of, make_results, page_of
from tests.leaderboard.conftest import World

THRICE = KINDS | {"ours+2": "method", "ours+3": "method"}
Train = Callable[..., str]


@pytest.fixture
def train(world: World, tmp_path: Path) -> Train:
    """Makes the run folder of a seed, with other settings than the rest where they are given."""

    def make(seed: int, **config: object) -> str:
        folder = world.make_run(tmp_path / "-".join(["run", str(seed), *map(str, config)]), seed)
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"seed_everything": seed} | config))
        return str(folder)

    return make


def find(*arguments: str) -> list[RunEntry]:
    labels = set(LABELS)
    return [find_run(argument, labels, several=True) for argument in arguments]


def test_further_trainings_of_a_label_are_numbered(train: Train) -> None:
    runs = find(f"a={train(0)}", f"b={train(1)}", f"a={train(1)}", f"a={train(2)}")
    assert [one.entry.label for one in runs] == ["a", "b", "a+2", "a+3"]
    with pytest.raises(LikenessError, match="label 'prompt-only' is taken"):
        find(f"prompt-only={train(0)}")


def test_trainings_of_one_label_differ_in_their_seed_alone(train: Train) -> None:
    check_trainings("a", find(f"a={train(0)}", f"a={train(1)}"))
    other = train(2, trainer={"max_steps": 7})
    with pytest.raises(LikenessError) as error:
        check_trainings("a", find(f"a={train(0)}", f"a={other}"))
    assert str(error.value) == (
        f"--runs: label a is given 2 times, but {other} differs from {train(0)} in trainer.max_steps, not in its seed "
        "alone; other entries take labels of their own"
    )
    with pytest.raises(LikenessError, match=r"two trainings have one seed, each must have its own"):
        check_trainings("a", find(f"a={train(0)}", f"a={train(0)}"))


def test_a_training_keeps_its_folder_in_whatever_order_they_are_given(train: Train) -> None:
    first = find(f"a={train(0)}", f"a={train(1)}")
    known = [one.entry for one in first]
    again = in_their_folders(find(f"a={train(2)}", f"a={train(1)}", f"a={train(0)}"), known)
    assert [(one.entry.label, one.run.folder.name) for one in again] == [
        ("a+3", "run-2"), ("a+2", "run-1"), ("a", "run-0")
    ]  # fmt: skip
    assert in_their_folders(first, []) == first
    changed = [replace(known[0], weights="other")]
    assert [one.entry.label for one in in_their_folders(first, changed)] == ["a", "a+2"], "refused where it is claimed"


@pytest.fixture
def thrice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """``ours`` trained three times, with seeds that differ."""
    for label, level in (("ours+2", 0.6), ("ours+3", 0.4)):
        monkeypatch.setitem(IDENTITY, label, level)
    return make_results(tmp_path, kinds=THRICE, subjects=SIX)


def row_of(board: dict, label: str) -> dict:
    return next(entry for entry in board["entries"] if entry["label"] == label)


def test_they_are_one_row_whose_interval_covers_seeds(thrice: Results) -> None:
    board = board_of(thrice)
    assert sorted(entry["label"] for entry in board["entries"]) == sorted(KINDS)
    row, alone = row_of(board, "ours"), row_of(board, "theirs")
    found = row["metrics"]["identity_given_detection"]
    values = [one["metrics"]["identity_given_detection"] for one in row["trainings"]]
    assert [one["folder"] for one in row["trainings"]] == ["ours", "ours+2", "ours+3"]
    assert found["value"] == pytest.approx(np.mean(values), abs=0.01) and found["n"] == 6
    assert found["high"] - found["low"] > 0.3, "the three lie 0.1 apart"
    narrow = alone["metrics"]["identity_given_detection"]
    assert narrow["high"] - narrow["low"] < 0.1 and "trainings" not in alone
    assert row["counts"]["images"] == 3 * alone["counts"]["images"]
    (pair,) = board["comparisons"]["identity_given_detection"]
    assert pair["difference"] == pytest.approx(0.2, abs=0.02) and pair["p"] > 0.05, "not over three such seeds"
    assert row["metrics"]["identity_recovered"]["low"] < row["metrics"]["identity_recovered"]["value"]


def test_every_form_says_how_many(thrice: Results) -> None:
    board = board_of(thrice)
    for text in (summary(board), to_latex(board)):
        assert "ours (3 trainings)" in text and "t interval over subjects and trainings" in text
    assert "theirs (" not in summary(board)
    assert [line.split(",")[7] for line in to_csv(board).splitlines()] == ["trainings", "1", "3", "1", "1"]
    page = page_of(thrice, board)
    assert '<span class="kind">3 trainings</span>' in page and "t interval over subjects and trainings" in page
    assert "cannot be told apart" in compare_entries(thrice, "ours", "theirs")


def test_the_test_is_over_subjects_that_every_training_has(thrice: Results) -> None:
    ours, theirs = (next(r for r in read_scored(thrice).rows if r.label == label) for label in ("ours", "theirs"))
    found = compare(ours.columns["clip_t"], theirs.columns["clip_t"])
    assert found.n == 6 and found.difference == pytest.approx(np.mean([0.24, 0.2, 0.2]) - 0.26)


def test_without_its_first_training_a_row_is_left_out(thrice: Results) -> None:
    path = thrice.entry("ours").root / "records.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    board = board_of(thrice)
    assert "ours" not in {entry["label"] for entry in board["entries"]}
    assert any(note.startswith("left out ours: 23 of 24") for note in board["notes"])


def test_from_the_command_to_the_board(
    world: World, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results = str(tmp_path / "results")
    evaluate = ["--config", str(world.config), "--output", results, "--runs"]
    assert main([*evaluate, f"a={train(0)}"]) == 0
    single = (tmp_path / "results/entries/a/records.jsonl").read_bytes()
    assert main([*evaluate, f"a={train(1)}", f"a={train(0)}"]) == 0
    out = capsys.readouterr().out
    assert "a: 0 images generated" in out and "a+2: 12 images generated" in out and "a (2 trainings)" in out
    assert (tmp_path / "results/entries/a/records.jsonl").read_bytes() == single
    board = json.loads((tmp_path / "results/leaderboard.json").read_text())
    assert [len(e["trainings"]) for e in board["entries"] if e["label"] == "a"] == [2]
    assert main(["--verify", results]) == 0
    assert main([*evaluate, f"b={train(0)}", f"b={train(3, trainer={'max_steps': 7})}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --runs: label b is given 2 times, but ") and "trainer.max_steps" in line

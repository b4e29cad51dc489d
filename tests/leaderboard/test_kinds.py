"""Boards of people, of objects, and of both: which columns lead, and over which subjects."""

import json
from pathlib import Path

import pytest

from leaderboard.report.report import write_report
from leaderboard.report.tables.latex import to_latex
from leaderboard.report.tables.markdown import summary
from leaderboard.report.tables.significance import Mark, mark
from leaderboard.report.tables.titles import headline
from tests.helpers import boards
from tests.helpers.boards import KINDS, make_board, make_results

TEN = {f"s{i}": "person" for i in range(1, 6)} | {f"t{i}": "toy" for i in range(1, 6)}
TOYS = [name for name, noun in TEN.items() if noun == "toy"]
IDENTITY = ["identity_recovered", "copy_paste", "detection_rate", "identity_misses_zero"]
SUBJECT = ["subject_recovered", "subject_copy_paste", "subject_likeness"]


def test_people_alone_have_no_column_of_objects(tmp_path: Path) -> None:
    board = make_board(tmp_path, subjects=dict.fromkeys(list(TEN)[:5], "person"))[1]
    assert not any(name.startswith("subject_") for name in board["metrics"])
    assert headline(board)[:2] == ["identity_recovered", "copy_paste"] and set(IDENTITY) <= set(headline(board))


def test_objects_alone_have_a_headline_and_no_identity(tmp_path: Path) -> None:
    results = make_results(tmp_path, subjects=dict.fromkeys(TOYS, "toy"), objects=TOYS)
    table, notes = write_report(results)
    board = json.loads((tmp_path / "leaderboard.json").read_text())
    assert headline(board) == [
        "subject_recovered",
        "subject_copy_paste",
        "prompt_kept",
        "subject_likeness",
        "clip_t",
        "diversity",
    ]
    assert not any(name in board["metrics"] for name in [*IDENTITY, "identity_given_detection"])
    assert [entry["label"] for entry in board["entries"]] == ["real-photo", "theirs", "ours", "prompt-only"]
    values = {entry["label"]: entry["metrics"]["subject_recovered"]["value"] for entry in board["entries"]}
    assert values == pytest.approx({"real-photo": 1.0, "theirs": 0.75, "ours": 0.5, "prompt-only": 0.0})
    assert notes == [] and "Subject recovered ↑" in table and "Subject recovered" in to_latex(board)
    page = (tmp_path / "leaderboard.html").read_text()
    assert "Likeness of objects against prompt fit" in page and "Identity against" not in page


def test_both_are_shown_each_over_its_own_subjects_and_averaged_nowhere(tmp_path: Path) -> None:
    results, board = make_board(tmp_path, subjects=TEN, objects=TOYS, missed="s2.hat.00")
    assert headline(board)[:5] == [
        "identity_recovered",
        "copy_paste",
        "subject_recovered",
        "subject_copy_paste",
        "prompt_kept",
    ]
    people = make_board(tmp_path / "people", subjects={k: v for k, v in TEN.items() if k not in TOYS})[1]
    toys = make_board(tmp_path / "toys", subjects=dict.fromkeys(TOYS, "toy"), objects=TOYS)[1]
    for entry in board["entries"]:
        for names, count in ((IDENTITY, 5), (SUBJECT, 5), (["clip_t"], 10)):
            assert {entry["metrics"][name]["n"] for name in names} == {count}
        for alone, names in ((people, IDENTITY), (toys, SUBJECT)):
            same = next(other for other in alone["entries"] if other["label"] == entry["label"])
            for name in names:
                assert entry["metrics"][name]["value"] == pytest.approx(same["metrics"][name]["value"], abs=0.06), name
    rows = {entry["label"]: entry["metrics"] for entry in board["entries"]}
    for name in ("identity_recovered", "subject_recovered"):
        assert (rows["prompt-only"][name]["value"], rows["real-photo"][name]["value"]) == pytest.approx((0.0, 1.0))
    assert list(rows) == ["real-photo", "ours", "theirs", "prompt-only"], "identity decides first"
    assert mark(board, "identity_recovered")["ours"].best and mark(board, "subject_recovered")["theirs"].best
    page = boards.page_of(results, board)
    assert "Likeness of objects against prompt fit" in page and "Identity against prompt fit" in page


def test_one_that_copies_objects_loses_their_column_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its faces are its own: what is measured of people stays in the race, but its row leads no more."""
    monkeypatch.setitem(boards.COPYING, "theirs", 0.9)
    results = make_results(tmp_path, {**KINDS, "third": "method"}, subjects=TEN, objects=TOYS)
    for path in [results.entry("theirs").root / "records.jsonl"]:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if row["scores"]["copy_paste"] is not None:
                row["scores"]["copy_paste"] = 0.0
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    board = boards.board_of(results)
    theirs = next(entry for entry in board["entries"] if entry["label"] == "theirs")
    assert theirs["copies"] == ["subject_copy_paste"]
    assert mark(board, "subject_recovered") == {"ours": Mark(best=True), "third": Mark(second=True)}
    assert set(mark(board, "identity_recovered")) == {"ours", "theirs", "third"}
    assert [entry["label"] for entry in board["entries"]] == ["real-photo", "ours", "third", "theirs", "prompt-only"]
    assert "theirs copies its reference: subject copy paste" in board["notes"][0] and "theirs (copies)" in summary(
        board
    )

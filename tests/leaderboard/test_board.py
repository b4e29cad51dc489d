"""From records to the content of ``leaderboard.json``, bad input included."""

import json
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from leaderboard.board import make_leaderboard
from leaderboard.results import Entry
from tests.leaderboard.boards import KINDS, MANIFEST, make_board, make_results


def test_everything_behind_a_number_is_in_the_board(tmp_path: Path) -> None:
    results, board = make_board(tmp_path)
    json.dumps(board, allow_nan=False)
    ours = next(entry for entry in board["entries"] if entry["label"] == "ours")
    assert set(ours["metrics"]) == set(board["metrics"])
    assert ours["counts"] == {"images": 8, "without_face": 1, "several_faces": 0, "blank": 0, "prompts_cut": 0}
    assert ours["metrics"]["detection_rate"]["value"] == pytest.approx(7 / 8)
    assert ours["by_class"]["mix"]["detection_rate"]["value"] == pytest.approx(3 / 4)
    assert ours["by_class"]["scene"]["detection_rate"]["value"] == 1.0
    assert ours["by_subject"]["s2"]["detection_rate"] == pytest.approx(3 / 4)
    assert ours["manifest"] == MANIFEST
    assert ours["costs"] == {"seconds_per_image": None, **{k: v for k, v in MANIFEST.items() if k != "method"}}
    assert ours["records_sha256"] == results.entry("ours").records_hash()
    assert {pair["a"] for pair in board["comparisons"]["clip_t"]} | {
        pair["b"] for pair in board["comparisons"]["clip_t"]
    } == {"ours", "theirs"}
    assert set(board["ties"]["identity_recovered"]) == {"ours", "theirs"}


def test_floor_is_0_and_ceiling_is_1(tmp_path: Path) -> None:
    rows = {entry["kind"]: entry["metrics"]["identity_recovered"] for entry in make_board(tmp_path)[1]["entries"]}
    assert rows["floor"]["value"] == 0.0 and rows["ceiling"]["value"] == 1.0


def test_an_entry_that_produced_nothing_is_left_out_and_named(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    (results.entry("theirs").root / "records.jsonl").unlink()
    results.entry("nothing").claim(Entry("nothing", "method", "w"))
    board, notes = make_leaderboard(results)
    assert [entry["label"] for entry in board["entries"]] == ["real-photo", "ours", "prompt-only"]
    assert notes == ["left out nothing: 0 of 8 images are scored", "left out theirs: 0 of 8 images are scored"]


def test_without_floor_or_ceiling_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="holds no results"):
        make_leaderboard(make_results(tmp_path / "a", {"ours": "method"}))
    results = make_results(tmp_path / "b")
    (results.entry("prompt-only").root / "records.jsonl").unlink()
    with pytest.raises(LikenessError, match="left out prompt-only: 0 of 8 images"):
        make_leaderboard(results)


def test_nan_in_a_record_is_named(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace('"clip_t":0.24', '"clip_t":NaN', 1))
    with pytest.raises(LikenessError, match=r"ours/records.jsonl, line 1 holds NaN: remove the line"):
        make_leaderboard(results)


def test_records_of_other_metrics_are_refused(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace("clip_t@x|1", "clip_t@x|2", 1))
    with pytest.raises(LikenessError, match="ours was scored by other metrics"):
        make_leaderboard(results)


def test_records_of_another_version_are_refused(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace('"sample":', '"draw":', 1))
    with pytest.raises(LikenessError, match="another version"):
        make_leaderboard(results)


def test_the_same_run_under_two_labels_is_noted(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("theirs").root / "entry.json"
    path.write_text(path.read_text().replace('"weights": "theirs"', '"weights": "ours"'))
    _, notes = make_leaderboard(results)
    assert notes == ["theirs and ours are the same weights under two labels"]


def test_a_quick_look_may_leave_a_subject_out(tmp_path: Path) -> None:
    _, board = make_board(tmp_path, limit=2)
    assert board["protocol"]["images"] == 2 and board["protocol"]["limit"] == 2
    ours = next(entry for entry in board["entries"] if entry["label"] == "ours")
    assert ours["by_subject"]["s2"]["clip_t"] is None
    assert ours["by_class"]["mix"]["clip_t"]["value"] is None
    assert set(KINDS) == {entry["label"] for entry in board["entries"]}

"""From records to the content of ``leaderboard.json``, bad input included."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import LikenessError
from contracts.files import write_json
from leaderboard.report.report import write_report
from leaderboard.report.scored import read_scored
from leaderboard.report.tables.head_to_head import compare_entries
from leaderboard.report.tables.significance import mark
from leaderboard.results.costs import COSTS
from leaderboard.results.entry import Entry
from leaderboard.results.lines import json_line
from leaderboard.results.vectors import encode_vector
from tests.helpers import boards
from tests.helpers.boards import KINDS, MANIFEST, SIX, board_of, make_board, make_results


def test_everything_behind_a_number_is_in_the_board(tmp_path: Path) -> None:
    results, board = make_board(tmp_path, subjects=SIX)
    json.dumps(board, allow_nan=False)
    ours = next(entry for entry in board["entries"] if entry["label"] == "ours")
    assert set(ours["metrics"]) == set(board["metrics"])
    assert ours["counts"] == {
        "images": 24,
        "missing": 0,
        "without_face": 1,
        "several_faces": 0,
        "blank": 0,
        "prompts_cut": 0,
    }
    assert ours["metrics"]["detection_rate"]["value"] == pytest.approx(23 / 24)
    assert ours["by_class"]["mix"]["detection_rate"]["value"] == pytest.approx(11 / 12)
    assert ours["by_class"]["scene"]["detection_rate"]["value"] == 1.0
    assert ours["by_subject"]["s2"]["detection_rate"] == pytest.approx(3 / 4)
    assert ours["manifest"] == MANIFEST
    assert ours["costs"] == dict.fromkeys(COSTS) | {k: v for k, v in MANIFEST.items() if k != "method"}
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
    board, notes = board_of(results), read_scored(results).notes
    assert [entry["label"] for entry in board["entries"]] == ["real-photo", "ours", "prompt-only"]
    assert notes == ["left out nothing: 0 of 8 images are scored", "left out theirs: 0 of 8 images are scored"]


def test_without_floor_or_ceiling_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="holds no results"):
        board_of(make_results(tmp_path / "a", {"ours": "method"}))
    results = make_results(tmp_path / "b")
    (results.entry("prompt-only").root / "records.jsonl").unlink()
    with pytest.raises(LikenessError, match="left out prompt-only: 0 of 8 images"):
        board_of(results)


WITHOUT_FLOOR = {label: kind for label, kind in KINDS.items() if kind != "floor"}


def test_a_base_model_owes_a_floor_and_foreign_images_do_not(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="holds no results"):
        board_of(make_results(tmp_path / "a", WITHOUT_FLOOR))
    results = make_results(tmp_path / "b", WITHOUT_FLOOR, subjects=SIX, backbone=None)
    table, notes = write_report(results)
    board = json.loads((results.root / "leaderboard.json").read_text())
    assert [entry["label"] for entry in board["entries"]] == ["real-photo", "ours", "theirs"], "ordered by the base"
    for entry in board["entries"]:
        for name in ("identity_recovered", "prompt_kept"):
            assert entry["metrics"][name] == {"value": None, "low": None, "high": None, "n": 0}
            assert entry["by_class"]["mix"][name]["value"] is None
        assert entry["metrics"]["identity_misses_zero"]["low"] is not None
    assert board["ties"]["identity_recovered"] == {} and board["ties"]["identity_misses_zero"] == {
        "ours": 1,
        "theirs": 2,
    }
    (note,) = notes
    assert "identity recovered, prompt kept are n/a; rows are ordered by identity misses zero" in note
    assert note in (results.root / "leaderboard.html").read_text()
    assert re.search(r"ours +\| +n/a", table)
    compared = compare_entries(results, "ours", "theirs").splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in compared if line.startswith("| ")}
    assert cells["identity recovered ↑"] == "n/a" and cells["identity misses zero ↑"] == "ours"


def test_a_floor_that_is_given_counts_without_a_base_model(tmp_path: Path) -> None:
    board = make_board(tmp_path, subjects=SIX, backbone=None)[1]
    assert board["entries"][-1]["metrics"]["identity_recovered"]["value"] == 0.0 and board["notes"] == []


def test_without_a_ceiling_there_is_no_table_of_foreign_images_either(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="holds no results"):
        board_of(make_results(tmp_path, {"ours": "method", "theirs": "method"}, backbone=None))


def test_few_subjects_are_noted_and_have_no_intervals_and_no_tie_marks(tmp_path: Path) -> None:
    four, five = ({f"s{i}": "person" for i in range(1, n)} for n in (5, 6))
    for subjects, few in ((four, True), (five, False)):
        board = make_board(tmp_path / str(few), subjects=subjects)[1]
        assert ["without intervals and tie marks" in note for note in board["notes"]] == [True] * few
        assert (board["ties"]["identity_misses_zero"] == {}) is few
        for entry in board["entries"]:
            found = entry["metrics"]["identity_misses_zero"]
            assert found["value"] is not None and (found["low"] is None) is few
        marks = mark(board, "diversity").values()
        assert {m.best for m in marks} == {True, False}, "values are still ordered"
        assert any(m.tied for m in marks) is not few


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        (["s1", "s2", "s3"], ["3 of 6 subjects show a face", "3 of 6 subjects show none"]),
        (["s1"], ["1 of 6 subjects show none"]),
        ([], []),
    ],
)
def test_people_and_objects_are_counted_apart(tmp_path: Path, objects: list[str], said: list[str]) -> None:
    board = make_board(tmp_path, subjects=SIX, objects=objects)[1]
    assert [note.split(":")[0] for note in board["notes"]] == said
    assert (board["entries"][1]["metrics"]["identity_misses_zero"]["low"] is None) is (len(objects) > 1)
    assert board["entries"][1]["metrics"]["clip_t"]["low"] is not None, "of all subjects"


def test_nan_in_a_record_is_named(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace('"clip_t":0.24', '"clip_t":NaN', 1))
    with pytest.raises(LikenessError, match=r"ours/records.jsonl, line 1 holds NaN: remove the line"):
        board_of(results)


BAD_RECORDS = {
    "a text for NaN": ('"clip_t":0.24', '"clip_t":"NaN"', "the score clip_t is 'NaN', no number"),
    "a text": ('"clip_t":0.24', '"clip_t":"high"', "the score clip_t is 'high', no number"),
    "a truth": ('"clip_t":0.24', '"clip_t":true', "the score clip_t is True, no number"),
    "an infinity": ('"clip_t":0.24', '"clip_t":-Infinity', "holds -Infinity"),
    "a number too large": ('"clip_t":0.24', '"clip_t":1e999', "holds 1e999"),
    "no count of faces": ('"faces":1,', "", "details.faces is None, no count"),
    "half a face": ('"faces":1,', '"faces":0.5,', "details.faces is 0.5, no count"),
    "no word about cut tokens": (',"tokens_cut":0', "", "details.tokens_cut is None, no count"),
    "no word about blank": (',"blank":false', "", "details.blank is None, neither true nor false"),
    "another subject": ('"subject":"s1"', '"subject":"nobody"', "subject is 'nobody', request s1.beach.00 has 's1'"),
    "another prompt": ('"prompt_id":"beach"', '"prompt_id":"hat"', "prompt_id is 'hat', request s1.beach.00 has"),
    "another class": ('"prompt_class":"scene"', '"prompt_class":"mix"', "prompt_class is 'mix', request"),
    "another sample": ('"sample":0', '"sample":false', "sample is False, request s1.beach.00 has 0"),
    "another request": ('"request_id":"s1.', '"request_id":"s9.', "request 's9.beach.00' is not in the plan"),
    "a request by number": ('"request_id":"s1.beach.00"', '"request_id":[1]', "request [1] is not in the plan"),
    "scores in a list": ('"scores":{', '"scores":[],"details":{', "scores is []"),
    "a version by number": ('"clip_t@x|1"', "1", "the version of clip_t is 1"),
    "a hash by number": ('"image_sha256":', '"image_sha256":7,"was":', "another version of Likeness"),
    "a list": ('{"request_id"', '[1]\n{"request_id"', "is no JSON object"),
    "a feature of nothing": ('"features":{"clip":"', '"features":{"clip":"%', "the feature clip is not readable"),
    "a feature by number": ('"features":{"clip":', '"features":{"clip":1,"was":', "the feature clip is not readable"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_bad_record_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LikenessError) as error:
        board_of(results)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert f"{path}, line 1" in str(error.value) and "remove the line" in str(error.value)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.full(8, np.nan, np.float32), "the feature clip holds NaN or an infinity"),
        (np.array([1, np.inf] + [0] * 6, np.float32), "the feature clip holds NaN or an infinity"),
        (np.ones(7, np.float32), "the feature clip has 7 numbers, in other records 8"),
    ],
)
def test_a_feature_that_is_none_is_one_line_with_its_place(tmp_path: Path, vector: np.ndarray, message: str) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    lines = path.read_text().splitlines()
    third = json.loads(lines[2])
    third["features"]["clip"] = encode_vector(vector)
    path.write_text("\n".join([*lines[:2], json.dumps(third), *lines[3:], ""]))
    with pytest.raises(LikenessError, match=f"line 3: {message}"):
        board_of(results)


def test_of_two_records_of_a_request_the_last_counts(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    text = path.read_text()
    path.write_text(text + text.splitlines(keepends=True)[0].replace('"clip_t":0.24', '"clip_t":0.96'))
    board, notes = board_of(results), read_scored(results).notes
    ours = next(entry for entry in board["entries"] if entry["label"] == "ours")
    assert notes == [] and ours["counts"]["images"] == 8
    assert ours["metrics"]["clip_t"]["value"] == pytest.approx((7 * 0.24 + 0.96) / 8)
    results.entry("ours").merge_records([request.id for request in results.protocol().requests])
    assert len(path.read_text().splitlines()) == 8 and board_of(results)["entries"] != []
    again = next(entry for entry in board_of(results)["entries"] if entry["label"] == "ours")
    assert again["metrics"] == ours["metrics"]


def test_an_entry_of_another_protocol_is_refused(tmp_path: Path) -> None:
    here, other = make_results(tmp_path / "here"), make_results(tmp_path / "other", steps=50)
    shutil.copytree(other.entry("theirs").root, here.entry("copied").root)
    path = here.entry("copied").root / "entry.json"
    path.write_text(path.read_text().replace('"label": "theirs"', '"label": "copied"'))
    message = (
        f"copied was generated under protocol {other.protocol().hash}, .* is of {here.protocol().hash}: remove .*copied"
    )
    with pytest.raises(LikenessError, match=message):
        board_of(here)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cards: cards[4].update(version="clip_t@other|9"), "other versions of clip_t"),
        (lambda cards: cards.pop(0), "other versions of detection_rate"),
        (lambda cards: cards[0].pop("title"), "another version of Likeness"),
        (lambda cards: cards.insert(0, "clip_t"), "another version of Likeness"),
    ],
    ids=["another version", "a card less", "half a card", "no card"],
)
def test_cards_of_other_metrics_are_refused(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    results = make_results(tmp_path)
    cards = json.loads(results.cards.read_text())
    change(cards)
    write_json(results.cards, cards)
    with pytest.raises(LikenessError, match=message):
        board_of(results)


def test_records_of_other_metrics_are_refused(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace("clip_t@x|1", "clip_t@x|2", 1))
    with pytest.raises(LikenessError, match="ours was scored by other metrics"):
        board_of(results)


def test_records_of_another_version_are_refused(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace('"sample":', '"draw":', 1))
    with pytest.raises(LikenessError, match="another version"):
        board_of(results)


def test_the_same_run_under_two_labels_is_noted(tmp_path: Path) -> None:
    results = make_results(tmp_path, subjects=SIX)
    path = results.entry("theirs").root / "entry.json"
    path.write_text(path.read_text().replace('"weights": "theirs"', '"weights": "ours"'))
    note = "theirs and ours are the same weights under two labels"
    assert read_scored(results).notes == [note]
    _, said = write_report(results)
    assert said == [note] and json.loads((results.root / "leaderboard.json").read_text())["notes"] == [note]
    for name in ("leaderboard.md", "leaderboard.html"):
        assert note in (results.root / name).read_text()
    write_json(path, json.loads(path.read_text()) | {"settings": "another strength"})
    assert read_scored(results).notes == []


@pytest.mark.parametrize(("identity", "noted"), [(0.25, True), (0.19, False)])
def test_a_floor_that_resembles_the_subjects_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: float, noted: bool
) -> None:
    monkeypatch.setitem(boards.IDENTITY, "prompt-only", identity)
    board = board_of(make_results(tmp_path, subjects=SIX))
    (floor,) = [entry for entry in board["entries"] if entry["kind"] == "floor"]
    assert (floor["metrics"]["identity_misses_zero"]["low"] > 0.2) is noted
    assert [note[:43] for note in board["notes"]] == ["prompt-only already resembles the subjects:"] * noted


def test_a_floor_that_is_more_alike_than_photos_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(boards.IDENTITY, "real-photo", 0.05)
    board = board_of(make_results(tmp_path, subjects=SIX))
    said = (
        "real photos are no more like the subjects than prompt-only in identity misses zero: identity recovered is n/a"
    )
    assert board["notes"] == [said]
    assert {entry["metrics"]["identity_recovered"]["value"] for entry in board["entries"]} == {None}
    assert [entry["label"] for entry in board["entries"]][1:3] == ["ours", "theirs"], "the base still orders them"


def test_a_floor_whose_interval_reaches_strangers_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three alike subjects of six: the value is above 0.2, its interval is not."""
    monkeypatch.setitem(boards.IDENTITY, "prompt-only", 0.45)
    results = make_results(tmp_path, subjects=SIX)
    path = results.entry("prompt-only").root / "records.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["scores"]["identity_misses_zero"] *= row["subject"] in ("s1", "s2", "s3")
    path.write_text("".join(map(json_line, rows)))
    board = board_of(results)
    assert board["entries"][-1]["metrics"]["identity_misses_zero"]["value"] > 0.2 and board["notes"] == []


def test_a_quick_look_may_leave_a_subject_out(tmp_path: Path) -> None:
    _, board = make_board(tmp_path, limit=2)
    assert board["protocol"]["images"] == 2 and board["protocol"]["limit"] == 2
    ours = next(entry for entry in board["entries"] if entry["label"] == "ours")
    assert ours["by_subject"]["s2"]["clip_t"] is None
    assert ours["by_class"]["mix"]["clip_t"]["value"] is None
    assert set(KINDS) == {entry["label"] for entry in board["entries"]}

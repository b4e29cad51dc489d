"""An entry that copies its reference does not lead a board: no mark, no first row, and a word in every form."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import evaluate
from contracts.errors import LikenessError
from contracts.protocol import Protocol
from contracts.records import Interval
from datamodules.subjects import load_subjects
from leaderboard.report.standing import copied
from leaderboard.report.tables.dataframe import to_csv
from leaderboard.report.tables.head_to_head import compare_entries
from leaderboard.report.tables.latex import to_latex
from leaderboard.report.tables.markdown import escape, summary, to_markdown
from leaderboard.report.tables.significance import Mark, mark
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.image_files import write_image
from leaderboard.results.lines import json_line
from pocket.models.paths import CLIP, FACES_B
from tests.helpers import boards
from tests.helpers.boards import KINDS, SIX, board_of, cards, make_results, page_of
from tests.leaderboard.conftest import World
from tests.leaderboard.test_protocol import make_protocol

LIKENESS = ("identity_recovered", "identity_given_detection", "identity_misses_zero")
WITH_COPY = {**KINDS, "copier": "method"}


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """``copier`` gives back the reference: as like to other photos as photos are."""
    monkeypatch.setitem(boards.IDENTITY, "copier", 0.88)
    monkeypatch.setitem(boards.COPYING, "copier", 0.95)
    monkeypatch.setitem(boards.FIT, "copier", 0.3)


def a_board(root: Path, kinds: Mapping[str, str] = WITH_COPY) -> tuple[Results, dict]:
    results = make_results(root, kinds, subjects=SIX)
    return results, board_of(results)


def by_label(board: Mapping) -> dict[str, dict]:
    return {entry["label"]: entry for entry in board["entries"]}


@pytest.mark.usefixtures("copying")
def test_the_best_mark_of_a_likeness_goes_to_the_best_that_does_not_copy(tmp_path: Path) -> None:
    _, board = a_board(tmp_path)
    shown = by_label(board)
    assert {label: entry["copies"] for label, entry in shown.items() if entry["copies"]} == {"copier": ["copy_paste"]}
    for name in LIKENESS:
        assert shown["copier"]["metrics"][name]["value"] > shown["ours"]["metrics"][name]["value"]
        assert mark(board, name) == {"ours": Mark(best=True), "theirs": Mark(second=True)}
        assert board["ties"][name] == {"ours": 1, "theirs": 2}
        assert len(board["comparisons"][name]) == 3, "what was measured stays"
    assert mark(board, "clip_t")["copier"] == Mark(best=True), "a prompt is not answered by copying"


@pytest.mark.usefixtures("copying")
def test_a_copier_that_is_as_good_as_the_best_takes_no_tie_mark_and_gives_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(boards.IDENTITY, "copier", 0.5)
    _, board = a_board(tmp_path)
    pairs = {frozenset((p["a"], p["b"])): p["p_holm"] for p in board["comparisons"]["identity_given_detection"]}
    assert pairs[frozenset(("copier", "ours"))] > 0.05
    assert mark(board, "identity_given_detection") == {"ours": Mark(best=True), "theirs": Mark(second=True)}


@pytest.mark.usefixtures("copying")
def test_one_that_is_left_leads_nobody(tmp_path: Path) -> None:
    _, board = a_board(tmp_path, {label: kind for label, kind in WITH_COPY.items() if label != "theirs"})
    assert mark(board, "identity_recovered") == {}


@pytest.mark.usefixtures("copying")
def test_its_row_stands_behind_those_that_do_not_copy(tmp_path: Path) -> None:
    _, board = a_board(tmp_path)
    assert list(by_label(board)) == ["real-photo", "ours", "theirs", "copier", "prompt-only"]


@pytest.mark.usefixtures("copying")
def test_every_form_says_so(tmp_path: Path) -> None:
    results, board = a_board(tmp_path)
    (note,) = board["notes"]
    assert re.match(
        r"copier copies its reference: copy paste 0\.975 \[0\.9\d\d, 0\.9\d\d\], above 0\.5; it gets no", note
    )
    assert escape(note) in to_markdown(board) and "| copier (copies) " in summary(board)
    latex = to_latex(board)
    assert "copier (copies) &" in latex and "(copy-paste above 0.5) gets no mark in columns of likeness." in latex
    assert pd.read_csv(io.StringIO(to_csv(board))).set_index("label")["copies"].dropna().to_dict() == {
        "copier": "copy_paste"
    }
    page = page_of(results, board)
    assert note in page
    assert re.findall(r"<bdi>([\w-]+)</bdi> <span class=\"kind\">copies</span>", page) == ["copier"]
    compared = [line for line in compare_entries(results, "copier", "ours").splitlines() if "identity misses" in line]
    assert compared[0].rstrip("| ").endswith("copier (copies)")


def test_where_nobody_copies_nothing_is_said(tmp_path: Path) -> None:
    results, board = a_board(tmp_path)
    assert board["notes"] == [] and not any(entry["copies"] for entry in board["entries"])
    forms = (to_markdown(board), to_latex(board), page_of(results, board), compare_entries(results, "ours", "theirs"))
    assert not any("(copies)" in text or ">copies<" in text or "no mark" in text for text in forms)


@pytest.mark.usefixtures("copying")
def test_it_is_on_no_pareto_front(tmp_path: Path) -> None:
    """It beats all others in both measures, and would be the front alone."""
    page = page_of(*a_board(tmp_path))
    (plot,) = re.findall(r'aria-label="Identity against prompt fit.*?</svg>', page, re.DOTALL)
    fronts = {
        label: "front-point" in classes
        for label, classes in re.findall(r'data-entry="([\w-]+)" class="(point[^"]*)"', plot)
    }
    assert fronts == {"ours": True, "theirs": True, "copier": False, "prompt-only": False}


def test_copy_paste_stands_beside_identity_in_every_narrow_table(tmp_path: Path) -> None:
    results, board = a_board(tmp_path)
    assert list(board["metrics"])[:2] == ["identity_recovered", "copy_paste"]
    (head,) = [line for line in summary(board).splitlines() if line.startswith("| entry")]
    assert re.search(r"Identity recovered ↑ +\| +Copy paste ↓", head)
    assert r"Identity recovered $\uparrow$ & Copy paste $\downarrow$" in to_latex(board)
    columns = re.findall(
        r'<th scope="col" class="num" data-group="\w+"( data-headline| hidden)[^>]*>.*?">(.*?)&nbsp;',
        page_of(results, board),
    )
    assert [title for shown, title in columns if shown.strip() == "data-headline"][:2] == [
        "Identity recovered",
        "Copy paste",
    ]


@pytest.mark.parametrize(
    ("found", "copies"),
    [
        (Interval(0.6, 0.51, 0.7, 12), True),
        (Interval(0.6, 0.5, 0.7, 12), False),
        (Interval(0.9, 0.4, 1.0, 12), False),
        (Interval(0.51, None, None, 3), True),
        (Interval(0.5, None, None, 3), False),
        (Interval(None, None, None, 0), False),
    ],
)
def test_the_lower_end_decides_and_the_value_where_there_is_no_interval(found: Interval, copies: bool) -> None:
    assert copied({"copy_paste": found, "clip_t": Interval(0.9, 0.9, 0.9, 12)}, cards(), 0.5) == ["copy_paste"] * copies


def test_floor_and_ceiling_are_not_said_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("real-photo", "prompt-only"):
        monkeypatch.setitem(boards.COPYING, label, 0.9)
    _, board = a_board(tmp_path)
    assert not any(entry["copies"] for entry in board["entries"])


def test_the_limit_is_of_the_protocol_and_in_its_hash() -> None:
    protocol = make_protocol()
    assert protocol.copy_limit == 0.5 and replace(protocol, copy_limit=0.6).hash != protocol.hash
    written = json.loads(json.dumps(protocol.to_json()))
    with pytest.raises(LikenessError, match="changed by hand"):
        Protocol.from_json({**written, "copy_limit": 0.9})
    del written["copy_limit"]
    with pytest.raises(LikenessError, match="another version of Likeness: 'there is no copy_limit'"):
        Protocol.from_json(written)


def test_half_of_the_subjects_copied_is_no_copier_and_says_its_value(tmp_path: Path) -> None:
    """The value lies above the limit, the interval reaches below it."""
    results = make_results(tmp_path, WITH_COPY, subjects=SIX)
    path = results.entry("copier").root / "records.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["scores"]["copy_paste"] = 1.0 if row["subject"] in ("s1", "s2", "s3", "s4") else -0.2
    path.write_text("".join(map(json_line, rows)))
    found = by_label(board_of(results))["copier"]
    assert found["metrics"]["copy_paste"]["value"] > 0.5 and found["copies"] == []


def test_judged_images_of_the_reference_of_others_and_of_noise(world: World, tmp_path: Path) -> None:
    """By the pocket world's judges."""
    settings = yaml.safe_load(world.config.read_text())
    settings["judges"] = {"faces": str(FACES_B), "clip": str(CLIP)}
    config = tmp_path / "evaluation.yaml"
    config.write_text(yaml.safe_dump(settings))
    given = ["--config", str(config), "--output", str(tmp_path / "results")]
    assert evaluate.main([*given, "--stage", "generate"]) == 0
    results = Results(tmp_path / "results")
    protocol = results.protocol()
    first, second = load_subjects(settings["protocol"]["dataset"], list(protocol.subjects), protocol.resolution)
    noise = np.random.default_rng(0).integers(0, 255, first.reference.shape, np.uint8)
    for subject, stranger in ((first, second), (second, first)):
        shown = {
            "reference": subject.reference,
            "another-photo": subject.held_out[0],
            "stranger": stranger.held_out[0],
            "noise": noise,
        }
        for label, image in shown.items():
            for request in protocol.requests:
                if request.subject == subject.id:
                    write_image(results.entry(label).image(request.id), image, {})
    for label in shown:
        results.entry(label).claim(Entry(label, "method", label))
    assert evaluate.main([*given, "--stage", "score"]) == 0
    board = board_of(results)
    rows = by_label(board)
    copying = {label: rows[label]["metrics"]["copy_paste"]["value"] for label in shown}
    assert copying["reference"] == pytest.approx(1.0, abs=1e-6) and copying["noise"] is None
    assert copying["another-photo"] < 0 and copying["stranger"] < 0.5
    assert {label for label, row in rows.items() if row["copies"]} == {"reference"}
    assert rows["noise"]["metrics"]["detection_rate"]["value"] == 0.0
    assert mark(board, "identity_recovered")["another-photo"].best
    assert "reference" not in mark(board, "identity_recovered")
    methods = [label for label, row in rows.items() if row["kind"] == "method"]
    assert (methods[0], methods[-1]) == ("another-photo", "reference")

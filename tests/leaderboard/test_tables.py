"""The written forms of a finished evaluation."""

import csv
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from contracts.errors import LikenessError
from leaderboard.report.grid import make_grid
from leaderboard.report.scored import read_scored
from leaderboard.report.tables.cards import list_of_cards
from leaderboard.report.tables.dataframe import to_csv
from leaderboard.report.tables.head_to_head import compare_entries
from leaderboard.report.tables.latex import escape, to_latex
from leaderboard.report.tables.markdown import summary, to_markdown
from leaderboard.report.tables.significance import Mark, mark
from leaderboard.results.folder import Results
from tests.helpers.boards import KINDS, board_of, cards, make_board, make_results

MISS = (214, 30, 30)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> dict:
    subjects = {f"s{i}": "person" for i in range(6)}
    return make_board(tmp_path_factory.mktemp("board"), subjects=subjects)[1]


def table_rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:2] == "| "]


def test_csv_holds_every_number_of_the_json(board: dict) -> None:
    frame = pd.read_csv(io.StringIO(to_csv(board))).set_index("label")
    for entry in board["entries"]:
        row = frame.loc[entry["label"]]
        for name, found in entry["metrics"].items():
            for column, key in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high"), (f"{name}_n", "n")):
                assert pd.isna(row[column]) if found[key] is None else row[column] == pytest.approx(found[key])
    assert frame.loc["ours", "trainable_parameters"] == 1234
    assert set(frame["protocol"]) == {board["protocol"]["hash"]}
    json.dumps(board, allow_nan=False)


def test_markdown_has_a_narrow_table_and_one_of_everything(board: dict) -> None:
    text = to_markdown(board)
    rows = table_rows(summary(board))
    assert [row[0] for row in rows[2:]] == ["real-photo (ceiling)", "ours", "theirs", "prompt-only (floor)"]
    assert len({len(row) for row in rows}) == 1
    measures = [row[0] for row in table_rows(text)[len(rows) :]]
    assert all(any(m.lower().startswith(card["title"]) for m in measures) for card in board["metrics"].values())
    assert all(card["version"] in text for card in board["metrics"].values())
    assert board["protocol"]["hash"] in text
    assert "Kid ↓" in text, "lower is better"


HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2",
    "@SUM(A1)",
    "\t=1",
    "<script>alert(1)</script>",
    "![x](https://example.org/x.png)",
    "[link](javascript:alert(1))",
    "*bold* _it_ ~~gone~~ `code`",
    "a | b",
    "line\n\n# heading\n- list",
    "\\input{/etc/passwd} $x$ 100% #1 {a}_b^c~d",
    "[0pt] first in its row",
    "*first in its row",
    "&lt;b&gt; & \x1b[31mred",
    "www.example.org",
]


def hostile_board(board: dict, text: str) -> dict:
    """The board with ``text`` wherever a text comes from data: labels, titles, versions, judges, sampler and notes."""
    changed = json.loads(json.dumps(board).replace('"ours"', json.dumps(text)))
    for card in changed["metrics"].values():
        card |= {"title": text, "version": text}
    changed["protocol"]["sampler"] = text
    changed["entries"][1]["own_judges"] = {text: text}
    return {**changed, "notes": [text]}


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_what_comes_from_data_as_it_stands(board: dict, text: str) -> None:
    hostile = hostile_board(board, text)
    shown, plain = (MARKDOWN.render(to_markdown(b)) for b in (hostile, hostile_board(board, "plain")))
    tags, expected = ([re.sub(r" .*", "", tag) for tag in re.findall(r"<(.*?)>", page)] for page in (shown, plain))
    assert tags == expected
    assert " ".join(text.replace("\x1b", "").split()) in html.unescape(shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_spreadsheet_computes_nothing(board: dict, text: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(hostile_board(board, text)))))
    assert len({len(row) for row in rows}) == 1
    for cell in [cell for row in rows for cell in row]:
        assert cell[:1] not in ("=", "+", "@", "\t", "\r")
        assert not cell.startswith("-") or float(cell) < 0


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_sets_what_comes_from_data_as_it_stands(board: dict, text: str) -> None:
    hostile, plain = to_latex(hostile_board(board, text)), to_latex(hostile_board(board, "plain"))
    command = re.compile(r"\\(?!textbackslash|textascii)[A-Za-z]+")
    assert command.findall(hostile) == command.findall(plain)
    for active in ("&", "%", "$", "#", "^", "~", "\n"):
        assert len(re.findall(rf"(?<!\\){re.escape(active)}", hostile)) == len(
            re.findall(rf"(?<!\\){re.escape(active)}", plain)
        )
    assert not [line for line in hostile.splitlines() if line.startswith(("[", "*"))]
    bare = re.sub(r"\\[{}]", "", hostile)
    assert bare.count("{") == bare.count("}")


def test_marks_name_best_second_and_who_ties_with_the_best(board: dict) -> None:
    assert mark(board, "clip_t") == {"ours": Mark(second=True), "theirs": Mark(best=True)}
    tied = {**board, "comparisons": {"clip_t": [{"a": "ours", "b": "theirs", "p_holm": 0.2}]}}
    assert mark(tied, "clip_t") == {"ours": Mark(second=True, tied=True), "theirs": Mark(best=True, tied=True)}
    lower = {**board, "metrics": {"clip_t": {**board["metrics"]["clip_t"], "higher_is_better": False}}}
    assert mark(lower, "clip_t")["ours"].best
    assert "real-photo" not in mark(board, "identity_misses_zero"), "a ceiling competes with nobody"


def test_who_cannot_be_told_apart_from_the_best_is_marked_whoever_lies_between() -> None:
    entry = {"best": 0.4, "between": 0.35, "noisy": 0.3}
    p = {("best", "between"): 0.01, ("best", "noisy"): 0.3, ("between", "noisy"): 0.9}
    board = {
        "metrics": {"x": {"higher_is_better": True, "guards": []}},
        "entries": [
            {"label": k, "kind": "method", "copies": [], "counts": {"missing": 0}, "metrics": {"x": {"value": v}}}
            for k, v in entry.items()
        ],
        "comparisons": {"x": [{"a": a, "b": b, "p_holm": value} for (a, b), value in p.items()]},
    }
    assert {label for label, found in mark(board, "x").items() if found.tied} == {"best", "noisy"}


def test_markdown_and_latex_show_the_marks(board: dict) -> None:
    assert "**0.260**" in summary(board) and "_0.240_" in summary(board)
    latex = to_latex(board)
    assert r"\textbf{0.260}" in latex and r"\underline{0.240}" in latex
    tied = {**board, "comparisons": {"clip_t": [{"a": "ours", "b": "theirs", "p_holm": 0.2}]}}
    assert "**0.260**†" in summary(tied) and r"\underline{0.240}$^\dagger$" in to_latex(tied)


def test_latex_has_booktabs_rules_and_as_many_cells_as_columns(board: dict) -> None:
    latex = to_latex(board)
    columns = len(re.search(r"\\begin\{tabular\}\{(l?c+)\}", latex)[1])  # type: ignore[index]
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(KINDS)
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {columns}
    assert [latex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 3, 1]
    body = latex[latex.index(r"\toprule") :]
    assert body.count("{") == body.count("}")


def test_latex_prints_every_character_as_it_stands() -> None:
    assert escape(r"50% of a_b & {c} #1 $2 ~ ^ \x") == (
        r"50\% of a\_b \& \{c\} \#1 \$2 \textasciitilde{} \textasciicircum{} \textbackslash{}x"
    )


def test_a_quick_look_says_so_in_every_table(tmp_path: Path) -> None:
    _, board = make_board(tmp_path, limit=4)
    _, whole = make_board(tmp_path / "whole")
    for text in (to_markdown(board), to_latex(board), summary(board)):
        assert "QUICK LOOK, 4 images per entry" in text
    marks = [set(pd.read_csv(io.StringIO(to_csv(found)), dtype=str)["limit"]) for found in (board, whole)]
    assert marks[0] == {"4"} and all(pd.isna(mark) for mark in marks[1])
    assert board["protocol"]["hash"] != whole["protocol"]["hash"]
    assert "QUICK" not in to_markdown(whole)


def test_two_entries_are_compared_by_subject(tmp_path: Path) -> None:
    results = make_results(tmp_path, subjects={f"s{i}": "person" for i in range(6)})
    rows = {row[0]: row[1:] for row in table_rows(compare_entries(results, "theirs", "ours"))}
    difference, _, p, p_holm, n, better = rows["identity given detection ↑"]
    assert float(difference) == pytest.approx(-0.2, abs=0.01)
    assert float(p) <= float(p_holm) < 0.05
    assert (n, better) == ("6", "ours")
    mirrored = {row[0]: row[1:] for row in table_rows(compare_entries(results, "ours", "theirs"))}
    assert float(mirrored["identity given detection ↑"][0]) == -float(difference)
    assert rows["diversity ↑"][-1] == "cannot be told apart"
    assert "prompt-only" in compare_entries(results, "ours", "prompt-only"), "a floor can be compared with"


def test_rescaled_columns_are_compared_in_their_own_unit(tmp_path: Path) -> None:
    """The difference is that of the values which the board shows."""
    results = make_results(tmp_path, subjects={f"s{i}": "person" for i in range(6)})
    shown = {entry["label"]: entry["metrics"] for entry in board_of(results)["entries"]}
    rows = {row[0]: row[1:] for row in table_rows(compare_entries(results, "theirs", "ours"))}
    for title, name in (("identity recovered ↑", "identity_recovered"), ("prompt kept ↑", "prompt_kept")):
        expected = shown["theirs"][name]["value"] - shown["ours"][name]["value"]
        assert abs(expected) > 0.01
        assert float(rows[title][0]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("a", "b", "message"), [("ours", "nobody", "no complete entry 'nobody'"), ("ours", "ours", "twice")]
)
def test_a_comparison_with_nobody_is_one_line(tmp_path: Path, a: str, b: str, message: str) -> None:
    with pytest.raises(LikenessError, match=message):
        compare_entries(make_results(tmp_path), a, b)


def test_cards_say_what_a_number_means() -> None:
    text = list_of_cards(cards())
    assert all(word in text for card in cards() for word in (card.name, card.version, card.about))
    assert "lower is better" in text


def test_the_grid_marks_a_missing_face(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    records = read_scored(results).records
    sheet = make_grid(results, list(KINDS), records)
    ys, xs = np.nonzero((np.asarray(sheet) == MISS).all(axis=2))
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == (96, 96)
    colours = make_grid(results, ["prompt-only"], records).getcolors(1 << 20)
    assert MISS not in {colour for _, colour in colours or []}


def frames(results: Results) -> set[tuple[int, int]]:
    """The red pixels of the grid."""
    sheet = np.asarray(make_grid(results, list(KINDS), read_scored(results).records))
    return {(int(x), int(y)) for y, x in zip(*np.nonzero((sheet == MISS).all(axis=2)), strict=True)}


def test_with_a_limit_every_image_of_the_grid_is_under_its_prompt(tmp_path: Path) -> None:
    """A limit of 4 leaves s2 the prompt hat alone, whose column is the last."""
    whole, quick = make_results(tmp_path / "whole"), make_results(tmp_path / "quick", limit=4)
    assert [r.id for r in quick.protocol().requests if r.subject == "s2"] == ["s2.hat.00", "s2.hat.01"]
    assert frames(quick) == frames(whole) != set()


def test_the_grid_marks_no_missing_face_of_an_object(tmp_path: Path) -> None:
    assert frames(make_results(tmp_path, objects=["s2"])) == set()


def test_notes_are_in_the_markdown(board: dict) -> None:
    assert "Note:" not in to_markdown(board)
    noted = to_markdown({**board, "notes": ["a and b are the same weights under two labels"]})
    assert "\n\n- Note: a and b are the same weights under two labels.\n\n## Every measure" in noted

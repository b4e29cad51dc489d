"""The written forms of a finished evaluation, and the grid."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contracts.errors import LikenessError
from leaderboard.cards import derived_cards, make_cards
from leaderboard.grid import draw_grid
from leaderboard.pictures import write_picture
from leaderboard.results import Entry, Results, json_line, write_json
from leaderboard.tables import COLUMNS, make_leaderboard, to_csv, to_markdown
from tests.leaderboard.test_protocol import make_protocol

LABELS = {"real-photo": "ceiling", "ours": "method", "prompt-only": "floor"}
MISS = (214, 30, 30)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A results folder with made-up records."""
    results, cards = Results(tmp_path), make_cards("f" * 64, "c" * 64)
    protocol = make_protocol(metrics={card.name: card.version for card in cards})
    results.write_protocol(protocol)
    write_json(results.cards, [card.to_json() for card in cards])
    grey = np.full((64, 64, 3), 128, np.uint8)
    for subject in protocol.subjects:
        write_picture(results.reference(subject), grey, {})
    for label, kind in LABELS.items():
        folder = results.entry(label)
        folder.claim(Entry(label, kind, costs={"trainable_parameters": 1234} if kind == "method" else None))
        lines = []
        for i, request in enumerate(protocol.requests):
            identity = {"ceiling": 0.9, "method": 0.5, "floor": 0.1}[kind] + 0.01 * i
            seen = not (kind == "method" and request.id == "s2.hat.00")
            record = {
                "request_id": request.id,
                "subject": request.subject,
                "prompt_id": request.prompt_id,
                "prompt_class": request.prompt_class,
                "sample": request.sample,
                "image_sha256": "",
                "metric_versions": dict(protocol.metrics),
                "scores": {
                    "identity": identity if seen else None,
                    "identity_to_reference": identity if seen else None,
                    "clip_t": 0.25,
                },
                "details": {"faces": int(seen)},
                "features": {"clip": [1.0, 0.0]},
            }
            lines.append(json_line(record))
            write_picture(folder.image(request.id), grey, {})
        (folder.root / "records.jsonl").write_text("".join(lines))
    return results


def test_csv_holds_every_number_of_the_json(results: Results) -> None:
    board, notes = make_leaderboard(results)
    assert not notes
    frame = pd.read_csv(io.StringIO(to_csv(board))).set_index("label")
    for entry in board["entries"]:
        row = frame.loc[entry["label"]]
        for name, found in entry["metrics"].items():
            assert row[name] == pytest.approx(found["value"])
            assert row[f"{name}_low"] == pytest.approx(found["low"])
            assert row[f"{name}_n"] == found["n"]
    assert frame.loc["ours", "trainable_parameters"] == 1234
    json.dumps(board, allow_nan=False)


def test_markdown_has_a_row_per_entry_and_a_version_per_column(results: Results) -> None:
    board, _ = make_leaderboard(results)
    text = to_markdown(board)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["real-photo (ceiling)", "ours", "prompt-only (floor)"]
    assert len({row.count("|") for row in rows}) == 1
    assert all(card["version"] in text for card in board["metrics"].values())
    assert "enrol seconds" not in text, "a cost that nobody knows takes no column"
    assert board["protocol"]["hash"] in text


def test_records_of_other_metrics_are_refused(results: Results) -> None:
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace("clip_t@clip-cccccccc", "clip_t@clip-dddddddd", 1))
    with pytest.raises(LikenessError, match="ours was scored by other metrics"):
        make_leaderboard(results)


def test_the_grid_marks_a_missing_face(results: Results) -> None:
    sheet = draw_grid(results, list(LABELS))
    ys, xs = np.nonzero((np.asarray(sheet) == MISS).all(axis=2))
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == (96, 96)
    colours = draw_grid(results, ["prompt-only"]).getcolors(1 << 20)
    assert MISS not in {colour for _, colour in colours or []}


def test_every_column_has_a_card_and_no_version_is_shared() -> None:
    cards = {card.name: card for card in make_cards("f" * 64, "c" * 64)}
    cards |= {card.name: card for card in derived_cards(cards)}
    assert set(cards) == set(COLUMNS)
    assert len({card.version for card in cards.values()}) == len(cards)
    other = {card.version for card in make_cards("0" * 64, "1" * 64)}
    assert not other & {card.version for card in cards.values()}

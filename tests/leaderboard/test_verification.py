"""``--verify``: every kind of change is found, and an untouched folder passes."""

import hashlib
import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from leaderboard.page.render import render_page
from leaderboard.report import write_report
from leaderboard.results import Results, write_json
from leaderboard.verification import verify
from tests.leaderboard.boards import make_results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A finished evaluation of one run whose adapter is still there."""
    made = make_results(tmp_path / "results")
    for label in ("ours", "theirs"):
        adapter = tmp_path / label / "adapter.safetensors"
        adapter.parent.mkdir()
        adapter.write_bytes(label.encode())
        path = made.entry(label).root / "entry.json"
        about = json.loads(path.read_text())
        weights = hashlib.sha256(label.encode()).hexdigest()
        write_json(path, {**about, "weights": weights, "folder": str(adapter.parent)})
    write_report(made)
    return made


def test_an_untouched_folder_passes(results: Results) -> None:
    verdict = verify(results)
    assert (verdict.problems, verdict.unchecked) == ([], [])
    assert (verdict.entries, verdict.images, verdict.weights) == (4, 32, 2)
    assert {path.name for path in results.root.glob("leaderboard.*")} == {
        f"leaderboard.{end}" for end in ("json", "csv", "md", "tex", "html")
    }


def change_image(results: Results) -> str:
    results.entry("ours").image("s1.beach.00").write_bytes(results.reference("s1").read_bytes())
    return "s1.beach.00.png is not the image that was scored"


def lose_image(results: Results) -> str:
    results.entry("ours").image("s1.beach.00").unlink()
    return "s1.beach.00.png is missing"


def add_image(results: Results) -> str:
    results.entry("ours").image("s9.beach.00").write_bytes(b"")
    return "s9.beach.00.png is not in the plan"


def change_score(results: Results) -> str:
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace('"clip_t":0.24', '"clip_t":0.94', 1))
    return "records.jsonl was changed after the report"


def change_table(results: Results) -> str:
    path = results.root / "leaderboard.json"
    board = json.loads(path.read_text())
    board["entries"][1]["metrics"]["clip_t"]["value"] = 0.99
    write_json(path, board)
    return "leaderboard.json does not follow from the records"


def change_photo(results: Results) -> str:
    results.reference("s1").write_bytes(results.reference("s2").read_bytes())
    return "was changed"


def change_gallery(results: Results) -> str:
    tensors = {name: tensor + 1e-3 for name, tensor in load_file(results.galleries).items()}
    save_file(tensors, results.galleries)
    return "galleries.safetensors or a photo"


def change_weights(results: Results) -> str:
    (results.root.parent / "ours" / "adapter.safetensors").write_bytes(b"other")
    return "weights of ours"


@pytest.mark.parametrize(
    "change",
    [change_image, lose_image, add_image, change_score, change_table, change_photo, change_gallery, change_weights],
    ids=lambda change: change.__name__,
)
def test_every_change_is_found(results: Results, change) -> None:  # type: ignore[no-untyped-def]
    message = change(results)
    assert any(message in problem for problem in verify(results).problems), verify(results).problems


def test_weights_that_are_elsewhere_are_not_called_wrong(results: Results) -> None:
    (results.root.parent / "ours" / "adapter.safetensors").unlink()
    verdict = verify(results)
    assert verdict.problems == []
    assert verdict.unchecked == [
        f"weights of ours: {results.root.parent / 'ours' / 'adapter.safetensors'} is not on this machine"
    ]


def test_the_written_page_is_the_one_of_the_board(results: Results) -> None:
    board = json.loads((results.root / "leaderboard.json").read_text())
    assert (results.root / "leaderboard.html").read_text() == render_page(results, board)

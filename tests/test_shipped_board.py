"""The board that README and docs show is shipped as packed results: every number of their tables is made from it."""

import json
from pathlib import Path

import pytest

from evaluate import main
from leaderboard.results.archive import unpack
from tests.helpers.board_table import README, RESULTS, spoilt, table

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "docs" / "boards" / "pocket.tar.xz"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("shipped") / "pocket"
    unpack(SHIPPED, folder)
    assert main(["--stage=report", f"--output={folder}"]) == 0
    return json.loads((folder / "leaderboard.json").read_text())


def test_the_readme_shows_the_shipped_board(board: dict) -> None:
    assert "\n".join(table(board, README)) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_results_page_shows_the_shipped_board(board: dict) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert "\n".join(table(board, RESULTS)) in page and "\n".join(spoilt(board)) in page


def test_the_board_is_of_the_shipped_adapters(board: dict) -> None:
    manifest = json.loads((ROOT / "pocket" / "weights" / "manifest.json").read_text())["files"]
    adapters = {name.split("/")[1] for name in manifest if name.startswith("adapters/")}
    methods = {entry["label"]: entry for entry in board["entries"] if entry["kind"] == "method"}
    assert methods.keys() == adapters and len(methods) >= 9
    assert len(board["protocol"]["subjects"]) == 25 and board["protocol"]["images"] == 400


def test_no_folder_of_the_machine_that_made_it_is_told(board: dict) -> None:
    text = json.dumps(board)
    assert not any(f'"/{folder}/' in text for folder in ("work", "tmp", "root", "home"))

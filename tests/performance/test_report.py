"""The benchmark's records are such as a report takes."""

import json
from pathlib import Path

import pytest

from leaderboard.report.report import write_report
from performance import models
from performance.report import ENTRIES, fill

pytestmark = pytest.mark.skipif(not models.BASE.is_dir(), reason="the pocket models are not there")


def test_every_column_of_the_pocket_judges_has_a_value(tmp_path: Path) -> None:
    results = fill(tmp_path, subjects=5)
    _, notes = write_report(results)
    board = json.loads((tmp_path / "leaderboard.json").read_text())
    assert notes == [] and len(board["entries"]) == len(ENTRIES)
    method = next(entry for entry in board["entries"] if entry["kind"] == "method")
    assert len(method["metrics"]) > 15
    assert all(found["value"] is not None for found in method["metrics"].values())

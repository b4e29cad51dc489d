"""``--limit`` and ``--verify`` over a real evaluation of the smallest size."""

import json
from pathlib import Path

import pytest

from evaluate import main
from tests.leaderboard.conftest import World


def test_a_quick_look_is_marked_verified_and_kept_apart(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "look"
    command = ["--config", str(world.config), "--output", str(output), "--runs", str(world.run)]
    assert main([*command, "--limit", "4"]) == 0
    assert "QUICK LOOK, 4 images per entry" in capsys.readouterr().out
    board = json.loads((output / "leaderboard.json").read_text())
    assert (board["protocol"]["limit"], board["protocol"]["images"]) == (4, 4)
    assert {len(list((output / "entries" / e["label"] / "images").iterdir())) for e in board["entries"]} == {4}
    assert "Quick look." in (output / "leaderboard.html").read_text()

    assert main(["--verify", str(output)]) == 0
    # The base model, both judges and the run's adapter.
    assert "5 entries, 20 images with their records, 4 weights" in capsys.readouterr().out

    assert main(command) == 2
    assert "limit changed): take another --output" in capsys.readouterr().err

"""The three stages end to end, on real components of the smallest size."""

import json
from pathlib import Path

import pytest

from evaluate import main
from tests.leaderboard.conftest import World


def evaluate(world: World, output: Path, *more: str, config: Path | None = None) -> int:
    return main(["--config", str(config or world.config), "--output", str(output), *more])


def timeless(output: Path) -> dict:
    board = json.loads((output / "leaderboard.json").read_text())
    for entry in board["entries"]:
        entry["costs"].pop("seconds_per_image")
    return board


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(pattern))}


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("results") / "tiny"
    assert evaluate(world, output) == 0
    return output


def test_floor_and_ceiling_are_on_every_leaderboard(finished: Path) -> None:
    board = json.loads((finished / "leaderboard.json").read_text())
    ceiling, floor = board["entries"]
    assert (ceiling["label"], ceiling["kind"]) == ("real-photo", "ceiling")
    assert (floor["label"], floor["kind"]) == ("prompt-only", "floor")
    for entry in board["entries"]:
        for found in entry["metrics"].values():
            assert set(found) == {"value", "low", "high", "n"}
    assert ceiling["metrics"]["detection_rate"]["value"] == 1.0
    assert floor["metrics"]["prompt_kept"]["value"] == pytest.approx(1.0)
    assert board["protocol"]["images"] == 12

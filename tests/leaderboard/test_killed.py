"""A process killed in the middle, and a rerun with another number of processes, end in the same table."""

import json
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from evaluate import main
from leaderboard.results.costs import VARYING
from leaderboard.results.folder import Results
from tests.leaderboard.conftest import World


def evaluate(world: World, output: Path, processes: int) -> int:
    arguments = ["--config", str(world.config), "--output", str(output), "--runs", str(world.run)]
    return main([*arguments, "--trainer.devices", str(processes)])


def timeless(output: Path) -> bytes:
    """``leaderboard.json`` without its times, as bytes."""
    board = json.loads((output / "leaderboard.json").read_text())
    for entry in board["entries"]:
        for name in VARYING:
            entry["costs"].pop(name)
    return json.dumps(board).encode()


def start_and_kill(world: World, output: Path, processes: int, pattern: str, many: int) -> None:
    """Kill the whole group of processes as soon as ``many`` files of ``pattern`` lie in the folder."""

    def work() -> None:
        os.setpgid(0, 0)
        evaluate(world, output, processes)

    process = get_context("fork").Process(target=work)
    process.start()
    deadline = time.monotonic() + 120
    while process.is_alive() and len(list(output.glob(pattern))) < many and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.is_alive(), "it was done before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()


@pytest.mark.parametrize(
    ("pattern", "many", "first", "then"),
    [("entries/*/images/*.png", 15, 2, 1), ("entries/*/shards/*.jsonl", 1, 1, 2)],
    ids=["while it generates", "while it scores"],
)
def test_killed_and_rerun_with_another_process_count(
    world: World, tmp_path: Path, pattern: str, many: int, first: int, then: int
) -> None:
    assert evaluate(world, tmp_path / "whole", 1) == 0
    output = tmp_path / "killed"
    start_and_kill(world, output, first, pattern, many)
    assert not (output / "leaderboard.json").exists()
    assert evaluate(world, output, then) == 0
    assert timeless(output) == timeless(tmp_path / "whole")
    for entry in Results(output).entries():
        records = f"entries/{entry.label}/records.jsonl"
        assert (output / records).read_bytes() == (tmp_path / "whole" / records).read_bytes()

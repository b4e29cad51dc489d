"""``evaluate.py`` in processes that torchrun started."""

import os
import subprocess
import sys
from pathlib import Path

from evaluate import main
from leaderboard.results.folder import Results
from tests.leaderboard.conftest import World
from tests.leaderboard.test_evaluation import contents, timeless


def test_torchrun_decides_how_many_processes_there_are(world: World, tmp_path: Path) -> None:
    """Two processes share the work, although the configuration says one, and end with the bytes of one."""
    config = str(world.change(subjects=1, samples=1))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "evaluate.py"]
    arguments = ["--config", config, "--runs", str(world.run), "--trainer.accelerator", "cpu", "--batch_size", "1"]
    done = subprocess.run(
        [*launcher, *arguments, "--output", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("| spotdiff") == 1, "only the first process reports"
    assert main([*arguments, "--output", str(tmp_path / "one")]) == 0
    for pattern in ("images/*.png", "records.jsonl"):
        assert contents(tmp_path / "two/entries", f"*/{pattern}") == contents(tmp_path / "one/entries", f"*/{pattern}")
    assert timeless(tmp_path / "two") == timeless(tmp_path / "one")
    logs = Results(tmp_path / "two").entry("spotdiff").root.glob("timings/*.jsonl")
    assert [len(log.read_text().splitlines()) for log in sorted(logs)] == [2, 1], "both drew"

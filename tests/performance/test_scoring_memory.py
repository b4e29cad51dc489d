import subprocess
import sys
from pathlib import Path

from performance import scoring_memory


def test_the_peak_is_that_of_the_new_process_and_not_of_its_parent() -> None:
    held = b"x" * 800_000_000  # pages that are really there
    assert scoring_memory.own_peak() > len(held)
    code = "from performance.scoring_memory import own_peak; print(own_peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 50_000_000 < int(done.stdout) < len(held)


def test_every_image_is_scored(tmp_path: Path) -> None:
    assert scoring_memory.score_images(tmp_path, 50) == 50

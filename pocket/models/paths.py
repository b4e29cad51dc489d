"""Where the pocket world's weights lie."""

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"
BASE = WEIGHTS / "base"
CLIP = WEIGHTS / "clip"
FACES_A = WEIGHTS / "faces_a"
FACES_B = WEIGHTS / "faces_b"
STYLE = WEIGHTS / "style"

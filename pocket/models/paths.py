"""Where the pocket world's weights lie, and at which side its face detector reads."""

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"
BASE = WEIGHTS / "base"
CLIP = WEIGHTS / "clip"
FACES_A = WEIGHTS / "faces_a"
FACES_B = WEIGHTS / "faces_b"
STYLE = WEIGHTS / "style"
DET_SIZE = 128
"""Side of the detector's input in pixels: twice an image's, as in its training."""

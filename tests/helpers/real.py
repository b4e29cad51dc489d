"""Real photos and face packs, no part of the project: tests with them are skipped where they are not there."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

REAL = Path(os.environ.get("LIKENESS_REAL") or "/nonexistent")
"""The folder with ``people/NAME/*.jpg``, ``objects/NAME/*.jpg``, the packs ``faces_open`` and ``faces_open_centred``,
and ``yunet_640.onnx``."""
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="LIKENESS_REAL names no folder of real photos")


def portraits() -> dict[str, NDArray[np.uint8]]:
    """RGB photos (P, H, W, 3) of each person by name."""
    return {
        folder.name: np.stack([np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.jpg"))])
        for folder in sorted((REAL / "people").iterdir())
    }

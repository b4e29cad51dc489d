"""What git tracks: small weights that match their manifest, and no path of the machine it was made on."""

import re
import subprocess
from pathlib import Path

import pytest

from pocket.models import manifest
from pocket.models.paths import WEIGHTS

ROOT = Path(__file__).parents[1]
BINARY = {".bin", ".ckpt", ".npz", ".onnx", ".parquet", ".png", ".pt", ".safetensors"}
WEIGHT_LIMIT = 60_000_000
OTHER_LIMIT = 1_500_000


def _tracked() -> list[Path]:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_shipped_weights_are_the_ones_of_the_manifest() -> None:
    if not (WEIGHTS / manifest.NAME).is_file():
        pytest.skip("no weights are shipped yet")
    manifest.verify(WEIGHTS)
    tracked = {path for path in _tracked() if path.is_relative_to(WEIGHTS)} - {WEIGHTS / manifest.NAME}
    assert tracked == {WEIGHTS / name for name in manifest.build(WEIGHTS)}


def test_tracked_files_are_small() -> None:
    sizes = {path: path.stat().st_size for path in _tracked()}
    weights = {path: size for path, size in sizes.items() if path.is_relative_to(ROOT / "pocket")}
    assert sum(weights.values()) <= WEIGHT_LIMIT
    assert not {str(path) for path, size in sizes.items() if path not in weights and size > OTHER_LIMIT}


def test_no_pickled_weights_are_tracked() -> None:
    """Unpickling runs code; what is shared is safetensors or ONNX."""
    assert not [str(path) for path in _tracked() if path.suffix in {".bin", ".ckpt", ".pkl", ".pt", ".pth"}]


def test_no_tracked_text_names_a_path_of_one_machine() -> None:
    home = re.compile(r"(?<![\w.~-])/(?:home|root|Users|work|mnt)/\w+")
    found = []
    for path in _tracked():
        if path.suffix in BINARY or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if home.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)

"""LPIPS on random weights against equation 1, written out pair by pair."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from contracts.errors import LikenessError
from networks.lpips import LpipsNetwork
from pocket.tiny.components import ALEXNET, random_lpips


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_lpips(tmp_path_factory.mktemp("lpips") / "alex.safetensors")


@pytest.fixture(scope="module")
def weights(file: Path) -> dict[str, Tensor]:
    return load_file(file)


def by_hand(weights: dict[str, Tensor], a: np.ndarray, b: np.ndarray) -> float:
    def taps(image: np.ndarray) -> list[Tensor]:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255 * 2 - 1
        mean = torch.tensor([-0.030, -0.088, -0.188])
        scale = torch.tensor([0.458, 0.448, 0.450])
        x = (x - mean.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
        found = []
        for layer in ALEXNET:
            if layer in (3, 6):
                x = F.max_pool2d(x, 3, 2)
            stride, padding = (4, 2) if layer == 0 else (1, 2 if layer == 3 else 1)
            kernel, bias = (weights[f"features.{layer}.{part}"].double() for part in ("weight", "bias"))
            x = F.conv2d(x, kernel, bias, stride, padding).relu()
            found.append(x / x.norm(dim=1, keepdim=True).clamp(min=1e-10))
        return found

    distance = 0.0
    for tap, (x, y) in enumerate(zip(taps(a), taps(b), strict=True)):
        distance += float((weights[f"lin{tap}.model.1.weight"] * (x - y).square()).sum(dim=1).mean())
    return distance


def test_squared_distances_of_features_are_lpips(file: Path, weights: dict[str, Tensor]) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    features = LpipsNetwork(file).image_features(images).double()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        got = float((features[i] - features[j]).square().sum())
        assert got == pytest.approx(by_hand(weights, images[i], images[j]), rel=1e-4)


def test_what_is_no_lpips_is_refused_in_one_line(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    with pytest.raises(LikenessError, match=r"judges\.lpips: cannot read"):
        LpipsNetwork(tmp_path / "gone.safetensors")
    save_file({name: value for name, value in weights.items() if not name.startswith("lin4")}, tmp_path / "part")
    with pytest.raises(LikenessError, match="holds no LPIPS"):
        LpipsNetwork(tmp_path / "part")


@pytest.mark.parametrize("images", [np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 3, 64, 64), np.uint8)])
def test_another_range_or_order_is_refused(file: Path, images: np.ndarray) -> None:
    """Images in 0..1 or -1..1, or with channels first, would give numbers too, but wrong ones."""
    with pytest.raises(ValueError, match="expected uint8 images"):
        LpipsNetwork(file).image_features(images)

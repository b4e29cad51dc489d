"""The pocket reader of facial parts: a small plain network on aligned crops, see :mod:`networks.face_parts`."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from networks.face_parts import PARTS
from pocket.models.bank import Bank
from pocket.models.computing import autocast, send
from pocket.models.detector import Residual, conv
from pocket.models.spoilt_faces import PartViews
from pocket.models.training import Shown, fit

SEED = 5


class PartsReader(nn.Module):
    """(B, 3, 64, 64) in -1..1 to logits (B, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            conv(3, 24, 2), conv(24, 32, 2), Residual(32), conv(32, 48, 2), Residual(48), nn.Conv2d(48, 12, 1)
        )
        self.read = nn.Sequential(nn.Flatten(), nn.Linear(12 * 64, 64), nn.ReLU(), nn.Linear(64, len(PARTS)))

    def forward(self, crops: Tensor) -> Tensor:
        return self.read(self.trunk(crops))


def train_parts_reader(
    bank: Bank, folder: Path, steps: int = 2500, batch: int = 128, until: int | None = None
) -> nn.Module:
    """Binary cross-entropy for each part. State is kept in ``folder``; ``until`` ends early, on the schedule of
    ``steps``. Returns what is exported, which gives probabilities."""
    torch.manual_seed(SEED)
    reader = PartsReader()
    views = PartViews(bank)

    def draw(step: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        rng = np.random.default_rng((SEED, 31, step))
        crops, readable = zip(*(views.draw(rng) for _ in range(batch)), strict=True)
        return np.stack(crops), np.stack(readable)

    def loss(step: int, drawn: tuple[NDArray[np.uint8], NDArray[np.float32]]) -> tuple[Tensor, Shown]:
        crops, truth = (send(torch.from_numpy(part)) for part in drawn)
        images = (crops.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        with autocast():
            logits = reader(images.contiguous(memory_format=torch.channels_last)).float()
        known = truth.isfinite()
        value = F.binary_cross_entropy_with_logits(logits[known], truth[known])
        right = ((logits[known] > 0) == (truth[known] > 0.5)).float().mean()
        return value, {"loss": value.detach(), "right": right}

    state = folder / "face_parts.pt"
    averaged = fit(reader, loss, steps, 2e-3, state, "face_parts", decay=0.99, until=until, views=draw)
    reader.load_state_dict(averaged)
    return nn.Sequential(reader, nn.Sigmoid()).eval()

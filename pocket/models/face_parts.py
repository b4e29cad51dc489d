"""The pocket reader of facial parts: a small plain network on aligned crops, see :mod:`networks.face_parts`."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.face_parts import PARTS
from pocket.models.bank import Bank
from pocket.models.computing import autocast
from pocket.models.detector import Residual, conv
from pocket.models.spoilt_faces import PartViews
from pocket.models.training import fit

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

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng((SEED, 31, step))
        crops, readable = zip(*(views.draw(rng) for _ in range(batch)), strict=True)
        images = (torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        truth = torch.from_numpy(np.stack(readable))
        with autocast():
            logits = reader(images.contiguous(memory_format=torch.channels_last)).float()
        known = truth.isfinite()
        value = F.binary_cross_entropy_with_logits(logits[known], truth[known])
        right = ((logits[known] > 0) == (truth[known] > 0.5)).float().mean()
        return value, {"loss": value.item(), "right": right.item()}

    reader.load_state_dict(
        fit(reader, loss, steps, 2e-3, folder / "face_parts.pt", "face_parts", decay=0.99, until=until)
    )
    return nn.Sequential(reader, nn.Sigmoid()).eval()

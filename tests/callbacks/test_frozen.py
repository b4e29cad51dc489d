from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import train
from callbacks.frozen import FrozenGuard, weights_digest
from contracts.errors import LikenessError
from performance.faults.inject import fault
from pocket.tiny.world import TinyWorld


class Careless(L.LightningModule):
    """Trains its head and, where ``thawed``, a backbone that it should not."""

    def __init__(self, thawed: bool) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(2, 2).requires_grad_(thawed), nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.head(self.backbone(batch)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.head.parameters(), lr=0.1)


def fit(module: L.LightningModule) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FrozenGuard()],
    )
    trainer.fit(module, DataLoader([torch.ones(3, 2)] * 2, batch_size=None))


def test_a_frozen_backbone_passes() -> None:
    fit(Careless(thawed=False))


def test_a_backbone_that_holds_a_gradient_is_named_at_the_first_step() -> None:
    with pytest.raises(LikenessError, match=r"rank 0: frozen weights hold a gradient, first of them weight"):
        fit(Careless(thawed=True))


def test_a_frozen_weight_that_changed_fails_the_run_and_leaves_no_adapter(
    tiny_world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*tiny_world.arguments(tmp_path / "run", trainer__max_steps=3), *fault("Thaw", step=2)]) == 2
    assert "error: rank 0: frozen backbone weights changed during training" in capsys.readouterr().err
    assert not (tmp_path / "run" / "adapter.safetensors").exists()


def test_the_digest_sees_every_weight_and_every_buffer() -> None:
    module = nn.BatchNorm1d(3)
    digests = {weights_digest(module)}
    for name, value in module.state_dict().items():
        value += 1
        digests.add(weights_digest(module))
        assert len(digests) >= 2, name
    assert len(digests) == 1 + len(module.state_dict())
    assert weights_digest(module.to(torch.float64)) not in digests

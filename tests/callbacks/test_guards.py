"""A run that goes wrong stops with one line and harms nothing that was good before."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

import train
from callbacks.checkpoint_io import DurableCheckpointIO
from callbacks.guards import FiniteLoss
from contracts.errors import LikenessError
from performance.faults.inject import fault
from pocket.tiny.world import TinyWorld


def run(world: TinyWorld, output: Path, name: str, step: int, **changes: object) -> int:
    return train.main([*world.arguments(output, **changes), *fault(name, step=step)])


@pytest.mark.parametrize(
    ("step", "every", "message", "kept"),
    [
        (3, 2, "the loss became NaN or infinite before step 4", 2),
        (4, 2, "the weight experts.pose.layers.0.weight became NaN or infinite before step 4", 2),
        (3, 100, "the loss became NaN or infinite before step 6", None),
    ],
    ids=["loss", "weight", "found at the end"],
)
def test_nan_stops_the_run_before_anything_good_is_overwritten(
    tiny_world: TinyWorld,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    step: int,
    every: int,
    message: str,
    kept: int | None,
) -> None:
    assert run(tiny_world, tmp_path / "run", "Poison", step, checkpoint_every=every) == 2
    assert f"error: {message}; the last checkpoint is unharmed" in capsys.readouterr().err
    assert not (tmp_path / "run" / "adapter.safetensors").exists()
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert last.exists() == (kept is not None)
    if kept is not None:
        state = DurableCheckpointIO().load_checkpoint(last)
        assert state["global_step"] == kept
        assert all(value.isfinite().all() for value in state["state_dict"].values())


@pytest.mark.parametrize(("every", "steps"), [(5, 5), (50, 7)], ids=["at the next look", "at the end"])
def test_a_bad_loss_is_noticed_without_any_checkpoint(every: int, steps: int) -> None:
    class Bad(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.steps = torch.nn.Parameter(torch.ones(1)), 0

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            self.steps += 1
            return (self.weight * (torch.nan if self.steps == 3 else 1.0)).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    module = Bad()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=7,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FiniteLoss(every)],
    )
    with pytest.raises(LikenessError, match=f"became NaN or infinite before step {steps}"):
        trainer.fit(module, DataLoader([torch.zeros(1)] * 20, batch_size=None))
    assert module.steps == steps

"""What every run is trained under, and the checkpoint that it goes on from."""

from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.frozen import FrozenGuard
from callbacks.guards import FiniteLoss, SaveOnSigterm, Throughput
from callbacks.run_folder import RunFolder


def callbacks_of_every_run(folder: Path, config: str, checkpoint_every: int) -> list[Callback]:
    """Guards, the files of the run ``folder``, and checkpoints.

    Args:
        config: The resolved configuration as YAML text.
        checkpoint_every: Steps between checkpoints.
    """
    checkpoints = str(folder / "checkpoints")
    return [
        FiniteLoss(),
        FrozenGuard(),
        Throughput(),
        RunFolder(str(folder), config),
        ModelCheckpoint(
            checkpoints,
            save_last=True,
            every_n_train_steps=checkpoint_every,
            save_top_k=0,
            enable_version_counter=False,  # or a start that saves at other steps leaves last.ckpt as it is
        ),
        SaveOnSigterm(checkpoints),
    ]


def latest_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of a run ``folder``, which keeps ``last`` and, after an interruption, ``interrupted``."""
    files = [folder / "checkpoints" / name for name in ("last.ckpt", "interrupted.ckpt")]
    found = [file for file in files if file.exists()]
    return str(max(found, key=lambda file: file.stat().st_mtime_ns)) if found else None

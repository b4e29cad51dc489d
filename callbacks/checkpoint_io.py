"""Checkpoints that are either whole or not there."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from contracts.errors import LikenessError
from contracts.files import atomic_path


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file in the same folder, flushes it to the disk, renames it, and reads it back.

    Lightning's own writer can report a checkpoint as saved when no file exists. A failed write leaves the previous
    checkpoint as it was and raises :class:`LikenessError` naming the file. What a killed process left half-written is
    deleted by the next write. Loading allows plain tensors only.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            for left_over in path.parent.glob(f".{path.name}.*"):
                left_over.unlink()
            with atomic_path(path) as temporary:
                torch.save(checkpoint, temporary)
                torch.load(temporary, map_location="meta", weights_only=True)
            _sync_folder(path.parent)
        except (OSError, RuntimeError, pickle.PickleError) as error:
            raise LikenessError(f"checkpoint {str(path)!r} could not be written: {_reason(error)}") from error

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = None, weights_only: bool | None = True
    ) -> dict:
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except FileNotFoundError:
            raise LikenessError(f"ckpt_path: no checkpoint at {str(path)!r}") from None
        except (OSError, RuntimeError, EOFError, pickle.PickleError) as error:
            raise LikenessError(f"ckpt_path: {str(path)!r} is not a readable checkpoint: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The system's reason on one line; torch hides that of a full disk behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return next(iter(str(error).splitlines()), type(error).__name__)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

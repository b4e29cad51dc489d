"""Checkpoints that are either whole or not there."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from contracts.errors import LikenessError
from contracts.files import atomic_path, remove
from datamodules.spotdiff10k import SpotDiff10kDataModule

NAMES = ("last.ckpt", "interrupted.ckpt")
"""What a run keeps: the latest one and, after it was told to end, the one of that moment."""
PARTS: Mapping[str, tuple[type, tuple[str, ...]]] = {
    "state_dict": (dict, ()),
    "optimizer_states": (list, ()),
    "lr_schedulers": (list, ()),
    "loops": (dict, ("fit_loop",)),
    "callbacks": (dict, ("RunFolder",)),
    SpotDiff10kDataModule.__qualname__: (dict, ()),
}
"""What a run goes on with, and what must be in it: without one of them it would begin anew in that part."""
_HANDED_OVER = ".temp.ckpt"
"""What Lightning calls the file in which a forked process hands its weights, and nothing else, to its parent."""
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, pickle.PickleError, zipfile.BadZipFile)


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file in the same folder, flushes it to the disk, renames it, and reads it back.

    Lightning's own writer can report a checkpoint as saved when no file exists. A failed write leaves the previous
    checkpoint as it was and raises :class:`LikenessError` naming the file. What a killed process left half-written is
    deleted by the next write. Loading allows plain tensors only, of a file whose checksums are right and that has all
    :data:`PARTS`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            with atomic_path(path) as temporary:
                torch.save(checkpoint, temporary)
                check_bytes(temporary)
                torch.load(temporary, map_location="meta", weights_only=True)
            _sync_folder(path.parent)
        except _UNREADABLE as error:
            raise LikenessError(f"checkpoint {str(path)!r} could not be written: {_reason(error)}") from error

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = None, weights_only: bool | None = True
    ) -> dict:
        checkpoint = _read(Path(path), map_location or "cpu")
        if Path(path).name == _HANDED_OVER:
            return checkpoint
        for name, (kind, inside) in PARTS.items():
            part = checkpoint.get(name)
            missing = [key for key in inside if not isinstance(part, dict) or not part.get(key)]
            if not isinstance(part, kind) or not part or missing:
                lost = f"{name}.{missing[0]}" if part and missing else name
                raise LikenessError(
                    f"ckpt_path: {str(path)!r} lacks {lost}, so the run cannot go on from it: restore the file, or "
                    "take another --output"
                )
        return checkpoint

    def remove_checkpoint(self, path: str | os.PathLike) -> None:
        remove(Path(path))


def latest_checkpoint(folder: Path) -> str | None:
    """The checkpoint with most steps of those that a run keeps; the times of the files say nothing, which copying
    changes. Raises :class:`LikenessError` where one of them is damaged."""
    found = [file for name in NAMES if os.path.lexists(file := folder / name)]
    return str(max(found, key=_steps) if len(found) > 1 else found[0]) if found else None


def check_bytes(path: Path) -> None:
    """Compare every part of a checkpoint with the checksum that its file holds; torch reads without doing so.

    Raises:
        ValueError: one is wrong, or is compressed as no checkpoint is.
        OSError, zipfile.BadZipFile: the file is cut short or is no checkpoint.
    """
    with zipfile.ZipFile(path) as file:
        if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
            raise ValueError("it is compressed, as no checkpoint is")
        if (damaged := file.testzip()) is not None:
            raise ValueError(f"its part {damaged} has a wrong checksum")


def _steps(path: Path) -> int:
    steps = _read(path, "meta").get("global_step")
    if type(steps) is not int:
        raise LikenessError(f"ckpt_path: {str(path)!r} does not say its step: restore the file, or delete it")
    return steps


def _read(path: Path, device: Any) -> dict:
    """What the file holds, after its checksums were found right."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        check_bytes(path)
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise LikenessError(f"ckpt_path: no checkpoint at {str(path)!r}") from None
    except _UNREADABLE as error:
        raise LikenessError(
            f"ckpt_path: {str(path)!r} is not a readable checkpoint: {_reason(error)}: restore or delete it"
        ) from error
    if not isinstance(checkpoint, dict):
        raise LikenessError(f"ckpt_path: {str(path)!r} is not a checkpoint of a run: restore or delete it")
    return checkpoint


def _reason(error: BaseException) -> str:
    """The system's reason on one line; torch hides that of a full disk behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if "inline_container" in str(error):  # where torch writes from outside of Python
        return "the disk is full, or a file may not be so large"
    return next(iter(str(error).splitlines()), type(error).__name__)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

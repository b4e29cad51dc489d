"""Lightning's trainer for a run: each of its settings is honoured or refused, none is overridden in silence."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import HalfPrecision

from callbacks.averaging import AveragedWeights
from callbacks.checkpoint_io import DurableCheckpointIO
from contracts.errors import LikenessError
from contracts.launcher import launched_group

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_SPELLINGS = {None: 0, 32: 0, "32": 0, "bf16": 1, 16: 2, "16": 2} | {name: i for i, name in enumerate(PRECISIONS)}

_REFUSED = {
    "default_root_dir": "a run's files lie in --output",
    "overfit_batches": "a batch is a function of its number and comes once; for few photos give data.subjects",
    "fast_dev_run": "it would leave a run of one step; give --trainer.max_steps 2 and another --output",
    "model_registry": "nothing is sent to a registry",
    "barebones": "a run is never without logs and checkpoints; give --trainer.logger false to leave logs out",
}
"""Settings that a run cannot honour, and why."""


def honoured(settings: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """What of the parsed ``trainer.*`` settings the trainer of a run in ``output`` is made with.

    Callbacks stay as they are given, see :func:`given_callbacks`.

    Raises:
        LikenessError: a setting has no meaning here, or one that would harm what is trained. The message names it.
    """
    for name, why in _REFUSED.items():
        if settings.get(name):
            raise LikenessError(f"trainer.{name} {settings[name]!r} is refused: {why}")
    _check_numbers(settings)
    return {**settings, **_processes(settings), "plugins": _plugins(settings), "logger": _logger(settings, output)}


def given_callbacks(settings: Mapping[str, Any]) -> list[Callback]:
    """The callbacks of ``trainer.callbacks``. What averages weights does so with those alone that are trained.

    Raises:
        LikenessError: a ``Timer``, whose spent time would be restored when a run goes on.
    """
    given = settings.get("callbacks") or []
    callbacks = list(given) if isinstance(given, Sequence) else [given]
    if any(isinstance(callback, Timer) for callback in callbacks):
        raise LikenessError("trainer.callbacks: in place of a Timer give --trainer.max_time, which counts each start")
    return [AveragedWeights(one) if isinstance(one, WeightAveraging) else one for one in callbacks]


def _check_numbers(settings: Mapping[str, Any]) -> None:
    precision = settings.get("precision")
    if precision in ("16-true", "bf16-true"):
        raise LikenessError(
            f"trainer.precision {precision} would keep what is trained in 16 bits, where small updates are lost: "
            f"take {precision.removesuffix('true')}mixed"
        )
    if precision not in _SPELLINGS:
        raise LikenessError(
            f"trainer.precision is {precision!r}, the networks compute in one of: {', '.join(PRECISIONS)}"
        )
    if settings.get("max_steps") == 0 or settings.get("max_epochs") == 0:
        raise LikenessError("trainer.max_steps or trainer.max_epochs is 0: nothing would be trained")
    if settings.get("limit_train_batches") == 0:
        raise LikenessError("trainer.limit_train_batches is 0: nothing would be trained")
    clip = settings.get("gradient_clip_val")
    if clip is not None and not (clip >= 0 and math.isfinite(clip)):
        raise LikenessError(f"trainer.gradient_clip_val is {clip}, it must be 0 (which clips nothing) or more")
    if (every := settings.get("log_every_n_steps")) is not None and every < 0:
        raise LikenessError(f"trainer.log_every_n_steps is {every}, it must be 0 (which logs nothing) or more")


def _processes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where torchrun or SLURM started the processes, their numbers; they know better than a file how many there are."""
    group = launched_group()
    return {} if group is None else {"devices": group.devices, "num_nodes": group.nodes}


def _plugins(settings: Mapping[str, Any]) -> list[Any]:
    given = settings.get("plugins") or []
    plugins = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    for plugin in plugins:
        if isinstance(plugin, CheckpointIO):
            raise LikenessError(
                f"trainer.plugins: {type(plugin).__name__} is refused: checkpoints are written whole or not at all, "
                "which only our own writer promises"
            )
        if isinstance(plugin, HalfPrecision):
            raise LikenessError(
                f"trainer.plugins: {type(plugin).__name__} would keep what is trained in 16 bits, where small updates "
                "are lost"
            )
    return [*plugins, DurableCheckpointIO()]


def _logger(settings: Mapping[str, Any], output: Path) -> Any:
    """The loggers that were asked for; TensorBoard in the run folder where nothing was said."""
    asked = settings.get("logger")
    # Without a version, whose last letters the progress bar would show.
    return TensorBoardLogger(str(output / "tensorboard"), name="", version="") if asked in (None, True) else asked

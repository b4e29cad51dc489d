"""What may differ between the starts of one run, and the refusal of everything else."""

import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks.weight_averaging import WeightAveraging

from contracts.errors import LikenessError
from contracts.files import guard, refuse_links
from lightning_modules.run import Run

MAY_DIFFER = (
    # Where a run lies, what is kept of it and who judges it.
    "output",
    "start_from",
    "search",
    "checkpoint_*",
    "keep_adapters",
    "rank_timeout",
    "judges",
    "compile",
    "gradient_checkpointing",
    "data.validation",
    # Where networks and data lie. What they hold is compared by fingerprint when the checkpoint is loaded.
    "model.init_args.backbone",
    "model.init_args.revision",
    "data.backbone",
    "data.source",
    "data.features",
    "data.enrolment.faces",
    "data.cache_dir",
    "data.download",
    "data.num_workers",
    # How a method generates.
    "model.init_args.scale",
    "model.init_args.delay",
    # Processes and devices: the batches are the same for any number of them.
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.plugins",
    "trainer.use_distributed_sampler",
    "trainer.benchmark",
    "trainer.deterministic",
    # What is watched and shown, and when a start ends.
    "trainer.callbacks",
    "trainer.logger",
    "trainer.log_every_n_steps",
    "trainer.enable_*",
    "trainer.profiler",
    "trainer.detect_anomaly",
    "trainer.max_time",
    "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch",
    "trainer.num_sanity_val_steps",
    "trainer.limit_val_batches",
    "trainer.limit_test_batches",
    "trainer.limit_predict_batches",
    "trainer.inference_mode",
    "trainer.reload_dataloaders_every_n_epochs",
)
"""Keys that may have another value when a run goes on, as shell patterns; a key stands for all below it."""


def check_same_settings(run: Run, now: Mapping[str, Any]) -> None:
    """Compare the configuration of a run that goes on with the one that it had.

    Raises:
        LikenessError: a setting that decides what is trained differs. The message has both values.
    """
    if not run.config_file.is_file():
        raise LikenessError(
            f"{str(run.folder)!r} has checkpoints and no config.yaml, so nobody knows how they were trained: restore "
            "it, or take another --output"
        )
    for key, then, here in _differences(run.config, now):
        raise LikenessError(
            f"the run in {str(run.folder)!r} was trained with {key.replace('.init_args', '')} {then!r}, here it is "
            f"{here!r}: give that again, or another --output (with --start_from {run.folder!s} it starts from what "
            "was trained)"
        )


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    averaging = "trainer.callbacks"
    before, here = (_averaging(_part(config, averaging)) for config in (then, now))
    if before != here:
        yield averaging, before, here
    yield from _compare("", then, now)


def _compare(key: str, then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Keys that only one of the two has are of another version of the code, and no setting of the user's."""
    if any(fnmatchcase(key, pattern) for pattern in MAY_DIFFER):
        return
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in sorted(then.keys() & now.keys()):
            yield from _compare(f"{key}.{name}" if key else name, then[name], now[name])
    elif then != now:
        yield key, then, now


def _averaging(callbacks: Any) -> list[Any]:
    """Those of ``trainer.callbacks`` that average the weights: all others only watch."""
    listed = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    return [one for one in listed if isinstance(one, Mapping) and _averages(str(one.get("class_path")))]


def _averages(path: str) -> bool:
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and issubclass(found, WeightAveraging)


def _part(config: Mapping[str, Any], key: str) -> Any:
    part: Any = config
    for name in key.split("."):
        part = part.get(name) if isinstance(part, Mapping) else None
    return part


def finished_step(run: Run) -> int | None:
    """The step at which the run was finished, if it was."""
    if not (run.adapter_file.is_file() and run.manifest_file.is_file()):
        return None
    step = run.manifest.get("steps")
    return step if isinstance(step, int) else None


def prepare(folder: Path) -> Run:
    """The run in ``folder``.

    Raises:
        LikenessError: something in it is no folder that must be one, or a link: TensorBoard would write behind it.
    """
    guard(folder)
    parts = [folder / name for name in ("checkpoints", "adapters", "starts", "tensorboard")]
    for part in (*parts, *parts[-1].rglob("*")):
        refuse_links(part)
    for part in (folder, *parts):
        if part.exists() and not part.is_dir():
            raise LikenessError(f"--output: {str(part)!r} is a file, and a run needs a folder there: move it away")
    for file in (folder / name for name in ("config.yaml", "manifest.json", "adapter.safetensors")):
        if file.is_dir():
            raise LikenessError(f"--output: {str(file)!r} is a folder, and a run needs a file there: move it away")
    return Run(folder)

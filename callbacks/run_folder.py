"""What a run leaves behind beside its checkpoints: ``config.yaml``, ``manifest.json`` and ``adapter.safetensors``."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

import json
import os
import platform
import resource
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import lightning as L
import torch

from lightning_modules.base import PersonalisationModule

_PACKAGES = ("lightning", "torch", "diffusers", "transformers", "torchmetrics", "insightface", "datasets", "numpy")


class RunFolder(L.Callback):
    """Writes the run's files. ``config`` is the resolved configuration as YAML text.

    The manifest holds git state, package versions, hardware, weight and data fingerprints (those of cached features
    with their preprocessing and face aligner), seconds, peak memory, trainable parameters and the number of processes.
    """

    def __init__(self, folder: str, config: str) -> None:
        self.folder, self.config = Path(folder), config
        self._first_step = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        self._started = time.monotonic()
        if trainer.is_global_zero:
            write_text(self.folder / "config.yaml", self.config)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: PersonalisationModule, checkpoint: dict) -> None:
        self._first_step = checkpoint["global_step"]  # the trainer's own count is restored after on_fit_start

    def on_fit_end(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        if not trainer.is_global_zero:
            return
        pl_module.save_adapter(self.folder / "adapter.safetensors")
        manifest = {
            "method": type(pl_module).__name__,
            "git": git_state(),
            "packages": {name: version(name) for name in _PACKAGES},
            "hardware": {
                "machine": platform.machine(),
                "cores": os.cpu_count(),
                "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            },
            "backbone": pl_module.backbone.fingerprint,
            "data": trainer.datamodule.fingerprint,  # type: ignore[attr-defined]
            "encoders": trainer.datamodule.encoder_fingerprints,  # type: ignore[attr-defined]
            "seconds": round(time.monotonic() - self._started, 1),
            "steps": trainer.global_step,
            "steps_of_this_start": trainer.global_step - self._first_step,
            "peak_memory_bytes": peak_memory(),
            "processes": trainer.world_size,
            **pl_module.run_facts(),
        }
        write_text(self.folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def peak_memory() -> int:
    """Peak bytes of this process: on the GPU where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def git_state() -> dict:
    """Commit and whether the work tree differs from it; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.strip(), "changed": bool(changed.strip())}


def write_text(path: Path, text: str) -> None:
    """Write a small file under its final name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)

"""What a run leaves behind beside its checkpoints: ``config.yaml``, ``manifest.json`` and ``adapter.safetensors``."""

# These callbacks watch our modules only.
# mypy: disable-error-code="override"

import os
import platform
import resource
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch

from callbacks.averaging import exported_weights
from callbacks.checkpoints import Checkpoints
from callbacks.trainer import Trainer
from contracts.files import read_file, remove, write_atomically, write_json
from lightning_modules.base import PersonalisationModule
from lightning_modules.run import Run

_PACKAGES = ("lightning", "torch", "diffusers", "transformers", "torchmetrics", "insightface", "datasets", "numpy")


class RunFolder(L.Callback):
    """Writes the run's files. ``config`` is the resolved configuration as YAML text.

    ``config.yaml`` is that of the latest start that took a step, and of the whole run: what may differ between its
    starts decides no step. ``starts/`` keeps the configuration of each.

    With a best adapter among ``checkpoints`` that one becomes ``adapter.safetensors``, otherwise the last one.
    ``kept`` in the manifest says which it is.

    The manifest holds the git state when this start began, package versions, hardware, weight and data fingerprints
    (those of cached features with their preprocessing and face aligner), seconds over all starts that led here, peak
    memory, trainable parameters, the number of processes, and the search that chose the settings (null where they were
    tuned by hand). A finished run that is started again takes no step and keeps its files.
    """

    def __init__(self, run: Run, config: str, checkpoints: Checkpoints, searched: dict[str, Any] | None = None) -> None:
        self.run, self.config, self._checkpoints = run, config, checkpoints
        self._searched = searched
        self._first_step = 0
        self._before = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        self._started = time.monotonic()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)  # what encoded the data is gone by now
        if trainer.is_global_zero:
            self._git = git_state()  # the code that trains; work may go on in the checkout meanwhile

    def on_train_start(self, trainer: L.Trainer, pl_module: PersonalisationModule) -> None:
        """Only where there are steps to take."""
        if trainer.is_global_zero:
            starts = sorted((self.run.folder / "starts").glob("*.yaml"))
            if trainer.ckpt_path is None:  # a run that begins anew has nothing to do with what was here
                for old in starts:
                    remove(old)
                starts = []
            config = self.config.encode()
            write_atomically(self.run.folder / "starts" / f"{len(starts) + 1:04d}.yaml", config)
            write_atomically(self.run.config_file, config)

    @property
    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def state_dict(self) -> dict:
        return {"seconds": self._seconds}

    def load_state_dict(self, state_dict: dict) -> None:
        self._before = state_dict["seconds"]

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: PersonalisationModule, checkpoint: dict) -> None:
        self._first_step = checkpoint["global_step"]  # the trainer's own count is restored after on_fit_start

    def on_fit_end(self, trainer: Trainer, pl_module: PersonalisationModule) -> None:
        if not trainer.is_global_zero:
            return
        device = pl_module.device
        finished = self.run.adapter_file.is_file() and self.run.manifest_file.is_file()
        if finished and trainer.global_step == self._first_step:
            return
        best = self._checkpoints.best
        if best is None:
            with exported_weights(trainer, pl_module):
                pl_module.save_adapter(self.run.adapter_file)
        else:
            write_atomically(self.run.adapter_file, read_file(self.run.adapter_of(best["step"])))
        manifest = {
            "method": type(pl_module).__name__,
            "git": self._git,
            "packages": {name: version(name) for name in _PACKAGES},
            "hardware": {
                "machine": platform.machine(),
                "cores": os.cpu_count(),
                "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            },
            "backbone": pl_module.backbone.fingerprint,
            "data": trainer.datamodule.fingerprint,
            "encoders": trainer.datamodule.encoder_fingerprints,
            "seconds": round(self._seconds, 1),
            "steps": trainer.global_step,
            "steps_of_this_start": trainer.global_step - self._first_step,
            "kept": best or {"metric": None, "step": trainer.global_step},
            "peak_memory_bytes": peak_memory(device),
            "processes": trainer.world_size,
            "search": self._searched,
            **pl_module.run_facts(),
        }
        write_json(self.run.manifest_file, manifest)


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process: on the GPU that it worked on, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
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

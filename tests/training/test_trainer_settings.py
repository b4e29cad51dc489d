"""Every setting of Lightning's trainer is honoured or refused."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor, Timer, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import AsyncCheckpointIO, HalfPrecision, MixedPrecision, TorchCheckpointIO

import train
from callbacks.averaging import AveragedWeights
from callbacks.checkpoint_io import DurableCheckpointIO
from contracts.errors import LikenessError
from pocket.tiny.world import TinyWorld
from training.trainer_settings import given_callbacks, honoured


def settings(**changes: Any) -> dict[str, Any]:
    """What the parser gives for no settings, with ``changes``."""
    defaults = {name: one.default for name, one in inspect.signature(Trainer).parameters.items()}
    return {**defaults, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"default_root_dir": "elsewhere"}, "trainer.default_root_dir 'elsewhere' is refused: a run's files lie in"),
        ({"overfit_batches": 4}, "trainer.overfit_batches 4 is refused"),
        ({"overfit_batches": 0.1}, "trainer.overfit_batches 0.1 is refused"),
        ({"fast_dev_run": True}, "give --trainer.max_steps 2"),
        ({"barebones": True}, "trainer.barebones True is refused"),
        ({"model_registry": "mine"}, "trainer.model_registry 'mine' is refused"),
        ({"precision": "64-true"}, "trainer.precision is '64-true', the networks compute in one of: 32-true"),
        ({"precision": 64}, "trainer.precision is 64"),
        ({"precision": "transformer-engine"}, "trainer.precision is 'transformer-engine'"),
        ({"precision": "16-true"}, "take 16-mixed"),
        ({"max_steps": 0}, "nothing would be trained"),
        ({"max_epochs": 0}, "nothing would be trained"),
        ({"limit_train_batches": 0}, "nothing would be trained"),
        ({"limit_train_batches": 0.0}, "nothing would be trained"),
        ({"gradient_clip_val": -1.0}, "trainer.gradient_clip_val is -1.0"),
        ({"gradient_clip_val": float("nan")}, "trainer.gradient_clip_val is nan"),
        ({"log_every_n_steps": -1}, "trainer.log_every_n_steps is -1"),
        ({"plugins": AsyncCheckpointIO(TorchCheckpointIO())}, "AsyncCheckpointIO is refused"),
        ({"plugins": [HalfPrecision("bf16-true")]}, "HalfPrecision would keep what is trained in 16 bits"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_honoured_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(LikenessError) as error:
        honoured(settings(**changes), tmp_path)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_is_asked_for_is_what_the_trainer_gets(tmp_path: Path) -> None:
    nothing = honoured(settings(), tmp_path)
    assert isinstance(nothing["logger"], TensorBoardLogger)
    assert Path(nothing["logger"].log_dir).parent == tmp_path or Path(nothing["logger"].root_dir).parent == tmp_path
    assert [type(plugin) for plugin in nothing["plugins"]] == [DurableCheckpointIO]
    csv, mixed = CSVLogger(tmp_path), MixedPrecision("bf16-mixed", "cpu")
    asked = honoured(settings(logger=[csv], plugins=mixed, gradient_clip_algorithm="value"), tmp_path)
    assert asked["logger"] == [csv] and asked["plugins"][0] is mixed
    assert asked["gradient_clip_algorithm"] == "value"
    assert honoured(settings(logger=False), tmp_path)["logger"] is False


@pytest.mark.parametrize(
    ("variables", "processes"),
    [
        (
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1"},
            (2, 2),
        ),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "x"}, (4, 2)),
        ({"SLURM_PROCID": "1"}, (1, 1)),
    ],
    ids=["torchrun", "SLURM", "none"],
)
def test_a_launcher_knows_how_many_processes_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], processes: tuple[int, int]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = honoured(settings(devices=1), tmp_path)
    assert (found["devices"], found["num_nodes"]) == processes


def test_averages_are_made_of_what_is_trained(tmp_path: Path) -> None:
    watching, averaging = LearningRateMonitor(), EMAWeightAveraging(decay=0.9)
    found = given_callbacks(settings(callbacks=[watching, averaging]))
    assert found[0] is watching and isinstance(found[1], AveragedWeights)
    assert isinstance(given_callbacks(settings(callbacks=WeightAveraging()))[0], AveragedWeights)
    with pytest.raises(LikenessError, match=r"in place of a Timer give --trainer.max_time"):
        given_callbacks(settings(callbacks=[Timer(duration="00:00:01:00")]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "torch.optim.SGD"}, "optimizer is refused: a method has an optimiser"),
        ({"optimizer.lr": 0.1}, "optimizer is refused"),
        ({"lr_scheduler": "torch.optim.lr_scheduler.StepLR"}, "lr_scheduler is refused"),
        ({"trainer.gradient_clip_algorithm": "both"}, "gradient_clip_algorithm"),
        ({"trainer.strategy": "nothing"}, "strategy"),
        ({"checkpoint_best": "clip_t"}, "checkpoint_best needs a validation"),
        ({"keep_adapters": 0}, "keep_adapters"),
        ({"model.scale": "${model.init_args.nothing}"}, "nothing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_line(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, object], words: str
) -> None:
    assert train.main(tiny_world.arguments(tmp_path / "run", **changes)) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and words in line, line
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_value_clipping_loggers_and_no_log_steps_are_honoured(tiny_world: TinyWorld, tmp_path: Path) -> None:
    logger = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": str(tmp_path / "csv"), "name": "n", "version": "v"},
    }
    clipped = {"trainer.gradient_clip_algorithm": "value", "trainer.gradient_clip_val": 1e-4, "trainer.max_steps": 2}
    assert train.main(tiny_world.arguments(tmp_path / "run", **clipped, **{"trainer.logger": json.dumps(logger)})) == 0
    assert not (tmp_path / "run" / "tensorboard").exists()
    head = (tmp_path / "csv" / "n" / "v" / "metrics.csv").read_text().splitlines()[0]
    assert {"train/loss", "train/gradient_norm", "peak_memory_gb", "images_per_second"} <= set(head.split(","))
    silent = {"trainer.log_every_n_steps": 0, "trainer.logger": False, "trainer.max_steps": 2}
    assert train.main(tiny_world.arguments(tmp_path / "silent", **silent)) == 0
    assert not (tmp_path / "silent" / "tensorboard").exists()


def test_help_begins_with_our_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    shown = capsys.readouterr()
    first = shown.out.split("--trainer.")[0]
    assert "stopped" not in shown.err
    assert all(f"--{name}" in first for name in ("config", "output", "start_from", "checkpoint_best", "rank_timeout"))
    assert train.main(["--config=configs/pocket/spotdiff.yaml", "--print_config"]) == 0

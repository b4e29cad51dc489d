"""A run that is told to end, or is killed, loses nothing: state, adapters, validation and what was logged."""

import json
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from callbacks.checkpoints import Checkpoints
from callbacks.interruption import EVERY
from lightning_modules.run import Run
from performance.faults.compare import points
from performance.faults.inject import fault
from pocket.tiny.world import TinyWorld

STEPS = 4
FORKED = {"trainer.devices": 2, "trainer.strategy": "ddp_fork_find_unused_parameters_true"}


def settings(world: TinyWorld, every: int = 100, validate: int = 2) -> dict[str, object]:
    """Four steps, the middle and last of them validated on two batches."""
    return {
        "data.validation.prompts": list(world.prompts),
        "trainer.val_check_interval": validate,
        "trainer.max_steps": STEPS,
        "trainer.log_every_n_steps": 1,
        "checkpoint_every": every,
        "judges.faces": world.faces,
        "judges.clip": world.clip,
    }


def in_a_process(arguments: list[str], limit: float = 60.0) -> int:
    """The exit code of ``train.main`` in a process of its own, which must end within ``limit`` seconds."""
    process = get_context("fork").Process(target=lambda: os._exit(train.main(arguments)))
    process.start()
    process.join(limit)
    try:
        assert process.exitcode is not None, f"the run did not end in {limit:.0f} s"
        return process.exitcode
    finally:
        process.kill()


def equal(run: Path, whole: Path) -> bool:
    """The same weights, and the same points but for rates and memory."""
    one, two = load_file(run / "adapter.safetensors"), load_file(whole / "adapter.safetensors")
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    found, expected = points(run), points(whole)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == values, name
    return True


@pytest.fixture(scope="module")
def whole(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("interruptions") / "whole"
    assert train.main(tiny_world.arguments(output, **settings(tiny_world))) == 0
    return output


@pytest.mark.parametrize(("name", "step"), [("SIGKILL", 2), ("SIGKILL", STEPS), ("SIGTERM", STEPS), ("SIGINT", 2)])
def test_a_validation_that_was_broken_off_is_made_good(
    tiny_world: TinyWorld, whole: Path, tmp_path: Path, name: str, step: int
) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **settings(tiny_world))
    code = in_a_process([*arguments, *fault("Signal", name=name, step=step, validation=True)])
    assert code == (-signal.SIGKILL if name == "SIGKILL" else 143)
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert train.main(arguments) == 0
    assert equal(tmp_path / "run", whole)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["steps"], manifest["steps_of_this_start"]) == (STEPS, STEPS - step)
    before = (tmp_path / "run" / "adapter.safetensors").stat().st_mtime_ns
    assert train.main(arguments) == 0, "the finished run again validates nothing"
    assert (tmp_path / "run" / "adapter.safetensors").stat().st_mtime_ns == before
    assert equal(tmp_path / "run", whole)


def test_the_points_of_a_step_are_on_the_disk_when_its_state_is(
    tiny_world: TinyWorld, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after the checkpoint of the first step, before Lightning logs that step."""
    arguments = tiny_world.arguments(tmp_path / "run", **settings(tiny_world, every=1))

    def save(self: Checkpoints, trainer: Trainer, *rest: object) -> None:
        before(self, trainer, *rest)
        if trainer.global_step == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    before = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", save)
    assert in_a_process(arguments) == -signal.SIGKILL
    monkeypatch.undo()
    assert train.main(arguments) == 0
    assert equal(tmp_path / "run", whole)


def test_a_validation_that_was_made_is_not_made_again(tiny_world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **settings(tiny_world))
    assert train.main([*arguments, *fault("Signal", name="SIGTERM", step=3)]) == 143
    images = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    assert train.main(arguments) == 0
    images.Reload()
    assert [event.step for event in images.Images("val/images")] == [2, STEPS]
    assert equal(tmp_path / "run", whole)


def test_ctrl_c_saves_the_state_and_an_adapter(
    tiny_world: TinyWorld, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    arguments = tiny_world.arguments(tmp_path / "run", **settings(tiny_world))
    assert train.main([*arguments, *fault("Signal", name="SIGINT", step=1)]) == 143
    assert "stopped: the state is saved" in capfd.readouterr().err
    assert Run(tmp_path / "run").adapter_steps() == [1]
    kept = load_file(Run(tmp_path / "run").adapter_of(1))
    assert kept.keys() == load_file(whole / "adapter.safetensors").keys()
    assert train.main(arguments) == 0
    assert equal(tmp_path / "run", whole)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    "told",
    [
        {"name": "SIGTERM", "parent": True, "rank": 0},
        {"name": "SIGINT", "parent": True, "rank": 1},
        {"name": "SIGTERM", "rank": 1},
    ],
    ids=["parent", "parent, Ctrl-C", "one of them"],
)
def test_forked_processes_save_and_end(
    tiny_world: TinyWorld, whole: Path, tmp_path: Path, told: dict[str, object]
) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **settings(tiny_world), **FORKED)
    assert in_a_process([*arguments, *fault("Signal", step=1, **told)]) == 143
    checkpoints = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["interrupted.ckpt"]
    step = torch.load(checkpoints / "interrupted.ckpt", weights_only=True)["global_step"]
    assert Run(tmp_path / "run").adapter_steps() == [step]
    assert in_a_process(arguments) == 0
    one, two = load_file(tmp_path / "run" / "adapter.safetensors"), load_file(whole / "adapter.safetensors")
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=1e-5)


def test_processes_compare_notes_once_in_some_steps(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """One that is told to end waits for the step at which they do."""
    long = {**settings(tiny_world, validate=100), "data.validation.prompts": [], "trainer.max_steps": 4 * EVERY}
    arguments = tiny_world.arguments(tmp_path / "run", **long, **FORKED)
    assert in_a_process([*arguments, *fault("Signal", name="SIGTERM", step=EVERY + 1, rank=1)]) == 143
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert torch.load(saved, weights_only=True)["global_step"] == 2 * EVERY


def test_a_killed_process_ends_the_others_with_one_line(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **settings(tiny_world), **FORKED)
    assert in_a_process([*arguments, *fault("Signal", name="SIGKILL", step=3, rank=1)]) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and "of this run" in line and "goes on from what is saved" in line, line


def test_max_time_counts_each_start(
    tiny_world: TinyWorld, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **settings(tiny_world))
    assert train.main([*arguments, "--trainer.max_time=00:00:00:00"]) == 143, "over after the first step"
    assert "stopped: the state is saved" in capfd.readouterr().err
    assert train.main([*arguments, "--trainer.max_time=00:00:00:00"]) == 143, "a step further"
    steps = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps == 2
    assert train.main([*arguments, "--trainer.max_time=00:01:00:00"]) == 0
    assert equal(tmp_path / "run", whole)


def test_a_second_ctrl_c_ends_at_once(tiny_world: TinyWorld, tmp_path: Path) -> None:
    twice = [*fault("Signal", name="SIGINT", step=1), *fault("Signal", name="SIGINT", step=1)[1:]]
    start = time.monotonic()
    assert in_a_process([*tiny_world.arguments(tmp_path / "run", **settings(tiny_world)), *twice]) == 143
    assert time.monotonic() - start < 60
    assert not list((tmp_path / "run").rglob("*.ckpt"))

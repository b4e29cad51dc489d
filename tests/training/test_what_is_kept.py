"""Adapters of several steps, the best one by a metric, and what a run writes about itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from contracts.errors import LikenessError
from leaderboard.plan.entries import find_runs
from lightning_modules.run import Run
from metrics.registry import METRICS
from performance.faults.inject import fault
from pocket.tiny.components import SIDE
from pocket.tiny.world import TinyWorld

STEPS = 6
METRIC = "clip_i"


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps, two of them of the experts, an adapter of each, validated after every second."""
    output = tmp_path_factory.mktemp("kept") / "run"
    settings = {
        "data.validation.prompts": list(tiny_world.prompts[:2]),
        "trainer.val_check_interval": 2,
        "trainer.log_every_n_steps": 1,
        "model.learning_rate": 0.3,
        "checkpoint_every": 1,
        "checkpoint_best": METRIC,
        "keep_adapters": 2,
        "judges.faces": tiny_world.faces,
        "judges.clip": tiny_world.clip,
    }
    assert train.main(tiny_world.arguments(output, **settings)) == 0
    return output


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return found


def test_the_newest_adapters_stay_and_the_best_one(run: Path) -> None:
    values = {event.step + 1: event.value for event in events(run).Scalars(f"val/{METRIC}")}
    assert set(values) == {2, 4, STEPS} and METRICS[METRIC].higher_is_better
    best = max(values, key=lambda step: values[step])
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["kept"]["metric"] == METRIC and manifest["kept"]["step"] == best
    assert manifest["kept"]["value"] == pytest.approx(values[best], abs=1e-6)
    assert Run(run).adapter_steps() == sorted({best, STEPS - 1, STEPS})
    assert (run / "adapter.safetensors").read_bytes() == Run(run).adapter_of(best).read_bytes()


def test_one_of_several_adapters_takes_part(run: Path, tmp_path: Path) -> None:
    last, step = find_runs([f"last={run}", f"{run}@{STEPS - 1}"])
    assert (last.entry.label, step.entry.label) == ("last", f"run-{STEPS - 1}")
    assert step.run.adapter_file == Run(run).adapter_of(STEPS - 1)
    assert step.entry.weights != last.entry.weights or Run(run).manifest["kept"]["step"] == STEPS - 1
    assert Run.named(step.entry.folder).adapter_file == step.run.adapter_file
    assert step.run.load().adapter().state_dict().keys() == load_file(run / "adapter.safetensors").keys()


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("{run}@1", "has no adapter of step 1; it kept those of steps"),
        ("{run}/nowhere", "there is no folder"),
        ("{run}/checkpoints", "is no finished run: it has no adapter.safetensors"),
    ],
)
def test_an_adapter_that_is_not_there_is_named(run: Path, word: str, words: str) -> None:
    with pytest.raises(LikenessError) as error:
        find_runs([word.format(run=run)])
    assert words in str(error.value)


def test_an_unfinished_run_says_which_steps_it_has(tiny_world: TinyWorld, tmp_path: Path) -> None:
    stop = fault("Signal", name="SIGTERM", step=3)
    assert train.main([*tiny_world.arguments(tmp_path / "run"), *stop]) == 143
    with pytest.raises(LikenessError, match=rf"it kept those of steps 2, 3: {tmp_path}/run@3"):
        find_runs([str(tmp_path / "run")])
    assert find_runs([f"{tmp_path}/run@2"])[0].entry.manifest == {"kept": {"step": 2}}
    start = {"start_from": f"{tmp_path}/run@2", "trainer.max_steps": 1, "model.learning_rate": 0.0}
    assert train.main(tiny_world.arguments(tmp_path / "next", **start, **{"model.expert_learning_rate": 0.0})) == 0


def test_a_term_is_written_for_the_steps_that_have_it(run: Path) -> None:
    found = events(run)
    steps = {tag: [event.step for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert steps["train/expert_pose"] == [0, 1] and steps["train/diffusion"] == [2, 3, 4, 5]
    for name in ("train/loss", "train/gradient_norm", "lr-AdamW/pg1", "peak_memory_gb"):
        assert steps[name] == list(range(STEPS)), name
    rates = [event.value for event in found.Scalars("lr-AdamW/pg1")]
    assert len(set(rates)) > 1 and all(event.value > 0 for event in found.Scalars("train/gradient_norm"))


def test_the_grid_of_images_begins_with_the_reference(run: Path, tiny_world: TinyWorld) -> None:
    import cv2

    image = events(run).Images("val/images")[0]
    pixels = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (SIDE, 3 * SIDE, 3), "one subject: its reference and two prompts"
    from datamodules.spotdiff10k import SpotDiff10kDataModule
    from datamodules.validation import ValidationSettings

    data = SpotDiff10kDataModule(
        **tiny_world.data(), validation=ValidationSettings(prompts=list(tiny_world.prompts), subjects=1)
    )
    data.setup()
    reference = data.validation_photos()[0].reference
    assert np.array_equal(cv2.cvtColor(pixels[:, :SIDE], cv2.COLOR_BGR2RGB), reference)


def test_every_start_keeps_its_configuration(tiny_world: TinyWorld, tmp_path: Path) -> None:
    stop = fault("Signal", name="SIGTERM", step=3)
    assert train.main([*tiny_world.arguments(tmp_path / "run"), *stop]) == 143
    assert train.main(tiny_world.arguments(tmp_path / "run", **{"checkpoint_every": 3, "model.scale": 0.5})) == 0
    first, second = ((tmp_path / "run" / "starts" / f"{i:04d}.yaml").read_text() for i in (1, 2))
    assert "checkpoint_every: 2" in first and "checkpoint_every: 3" in second
    assert (tmp_path / "run" / "config.yaml").read_text() == second


@pytest.mark.parametrize(
    "change",
    [
        {"trainer.gradient_clip_val": 0.5},
        {"trainer.gradient_clip_algorithm": "value"},
        {"trainer.precision": "bf16-mixed"},
        {"trainer.accumulate_grad_batches": 2},
        {"trainer.max_steps": 7},
        {"trainer.limit_train_batches": 4},
        {"seed_everything": 1},
        {"data.seed": 1},
        {"data.batch_size": 8},
        {"data.drops": {"text": 0.2}},
        {"data.first_stage": "null"},
        {"model.warmup_steps": 3},
        {"model.orthogonality_weight": 0.7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_resuming_with_another_setting_is_refused(
    run: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    config = (run / "config.yaml").read_text()
    settings = {
        "data.validation.prompts": list(tiny_world.prompts[:2]),
        "model.learning_rate": 0.3,
        "judges.faces": tiny_world.faces,
        "judges.clip": tiny_world.clip,
        **change,
    }
    assert train.main(tiny_world.arguments(run, **settings)) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert f"was trained with {next(iter(change))}" in line and "here it is" in line, line
    assert "another --output" in line and (run / "config.yaml").read_text() == config


def test_another_base_model_for_the_data_is_refused(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from pocket.tiny.components import tiny_base

    other = tiny_base(tmp_path / "other", seed=1)
    assert train.main(tiny_world.arguments(tmp_path / "run", **{"data.backbone": other})) == 2
    assert "has other weights than model.backbone" in capfd.readouterr().err.splitlines()[-1]

"""``train.py`` end to end on a world of the smallest size."""

import json
import os
import shutil
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import train
from datamodules.spotdiff10k import SpotDiff10kDataModule
from datamodules.validation import ValidationSettings
from lightning_modules.run import Run
from metrics.functional.identity import gallery_mean
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack
from networks.precision import bfloat16_units
from performance.faults.inject import fault
from pocket.models.paths import WEIGHTS
from pocket.tiny.components import SIDE, tiny_base
from pocket.tiny.world import TinyWorld

ROOT = Path(__file__).parents[1]
STEPS, EXPERT_STEPS = 6, 2
FORK = "--trainer.strategy=ddp_fork_find_unused_parameters_true"
"""Processes that need no imports of their own."""


def validated(world: TinyWorld) -> dict[str, object]:
    """Settings that validate once, after the last step, on three requests of one subject."""
    judges = {"judges.faces": world.faces, "judges.clip": world.clip}
    return {"data.validation.prompts": list(world.prompts), "trainer.val_check_interval": STEPS, **judges}


def adapter(run: Path) -> dict[str, Tensor]:
    return load_file(run / "adapter.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def scalars(run: Path) -> dict[str, float]:
    """The last value of everything that the run logged."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    found = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    return found | {tag: float(events.Images(tag)[-1].step) for tag in events.Tags()["images"]}


@pytest.fixture(scope="module")
def unbroken(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    output = tmp_path_factory.mktemp("runs") / "unbroken"
    assert train.main(tiny_world.arguments(output, **validated(tiny_world))) == 0
    return output


def test_a_run_folder_has_what_it_should(unbroken: Path, tiny_world: TinyWorld) -> None:
    names = {path.name for path in unbroken.iterdir()}
    kept = {"config.yaml", "manifest.json", "adapter.safetensors"}
    assert names == {*kept, "starts", "checkpoints", "adapters", "tensorboard"}
    assert Run(unbroken).adapter_steps() == [2, 4, 6]
    assert (unbroken / "starts" / "0001.yaml").read_text() == (unbroken / "config.yaml").read_text()
    assert [path.name for path in (unbroken / "checkpoints").iterdir()] == ["last.ckpt"]
    config = yaml.safe_load((unbroken / "config.yaml").read_text())
    assert config["model"]["class_path"] == "lightning_modules.SpotDiff"
    assert config["model"]["init_args"]["backbone"] == str(tiny_world.base)
    manifest = json.loads((unbroken / "manifest.json").read_text())
    assert manifest["method"] == "SpotDiff"
    assert (manifest["steps"], manifest["steps_of_this_start"], manifest["processes"]) == (STEPS, STEPS, 1)
    assert len(manifest["backbone"]) == len(manifest["data"]) == 64
    assert manifest["packages"]["torch"] == torch.__version__
    assert manifest["kept"] == {"metric": None, "step": STEPS}
    assert manifest["seconds"] > 0 and manifest["peak_memory_bytes"] > 0


def test_the_adapter_is_what_was_trained_and_nothing_else(unbroken: Path) -> None:
    module, saved = Run(unbroken).load(), adapter(unbroken)
    assert set(saved) == set(module.adapter().state_dict())
    assert not any("backbone" in name for name in saved)
    trained = json.loads((unbroken / "manifest.json").read_text())["trainable_parameters"]
    assert trained == sum(value.numel() for name, value in saved.items() if name != "standardise.mean")
    fresh = type(module)(**dict(module.hparams)).adapter().state_dict()
    attention = [name for name in saved if name.startswith("attention.")]
    assert attention and all(not torch.equal(saved[name], fresh[name]) for name in attention)
    assert saved["standardise.mean"].any()


def test_validation_logs_what_the_judges_say(unbroken: Path, tiny_world: TinyWorld) -> None:
    data = SpotDiff10kDataModule(
        **tiny_world.data(),
        validation=ValidationSettings(prompts=list(tiny_world.prompts), subjects=1, batch_size=2),
    )
    data.setup()
    module, faces, clip = Run(unbroken).load(), FacePack(tiny_world.faces), ClipJudge(str(tiny_world.clip))
    galleries = {}
    for subject in data.validation_photos():
        judged = faces.judge(subject.held_out)
        galleries[subject.id] = gallery_mean(torch.from_numpy(judged.embeddings[judged.found]))
    cosines, found, fits = [], [], []
    for batch in data.val_dataloader():
        images = module.generate(batch).numpy()
        judged = faces.judge(images)
        rows = torch.stack([galleries[subject] for subject in batch.subjects])
        cosines += (judged.embeddings * rows.numpy()).sum(axis=1).tolist()
        found += judged.found.tolist()
        words, _ = clip.text_features([prompt.replace("<subject>", "person") for prompt in batch.prompts])
        fits += (clip.image_features(images) * words).sum(dim=1).tolist()
    assert len(found) == 3
    logged = scalars(unbroken)
    expected = {
        "detection_rate": np.mean(found),
        "identity_given_detection": np.mean([c for c, there in zip(cosines, found, strict=True) if there]),
        "identity_misses_zero": np.mean([c * there for c, there in zip(cosines, found, strict=True)]),
        "clip_t": np.mean(fits),
    }
    for name, value in expected.items():
        assert logged[f"val/{name}"] == pytest.approx(float(value), abs=1e-5), name
    assert logged["val/images"] == STEPS
    assert {"train/loss", "train/diffusion", "images_per_second"} <= set(logged)


def files(run: Path) -> dict[str, bytes]:
    names = ("config.yaml", "manifest.json", "adapter.safetensors", "checkpoints/last.ckpt")
    return {name: (run / name).read_bytes() for name in names}


def test_the_finished_run_again_changes_nothing(unbroken: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    """Not what the training cost either, nor with which settings it was made."""
    output = Path(shutil.copytree(unbroken, tmp_path / "again"))
    assert train.main(tiny_world.arguments(output, **{"model.scale": 0.5})) == 0
    assert files(output) == files(unbroken)


@pytest.mark.parametrize("step", [EXPERT_STEPS - 1, 3], ids=["stage 1", "stage 2"])
def test_sigterm_saves_once_and_the_same_command_goes_on(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], step: int
) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", checkpoint_every=100)
    assert train.main([*arguments, *fault("Signal", name="SIGTERM", step=step)]) == 143
    assert "stopped: the state is saved" in capfd.readouterr().err
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"interrupted.ckpt"}
    assert not (tmp_path / "run" / "adapter.safetensors").exists()
    assert train.main(arguments) == 0
    assert same(adapter(tmp_path / "run"), adapter(unbroken))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["steps"], manifest["steps_of_this_start"]) == (STEPS, STEPS - step)


def test_sigterm_to_both_processes_ends_them_after_the_same_step(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    """Those that the launcher started anew; forked ones are in ``tests/training/test_interruptions.py``."""
    arguments = tiny_world.arguments(tmp_path / "run", checkpoint_every=100, **{"trainer.devices": 2})
    stop = fault("Signal", name="SIGTERM", step=EXPERT_STEPS + 1, rank="null")
    start = [sys.executable, "train.py", *arguments]
    stopped = subprocess.run([*start, *stop], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert stopped.returncode == 143, stopped.stderr[-2000:]
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"interrupted.ckpt"}
    assert train.main([*arguments, FORK]) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["steps"], manifest["steps_of_this_start"]) == (STEPS, STEPS - EXPERT_STEPS - 1)
    for name, value in adapter(unbroken).items():
        torch.testing.assert_close(value, adapter(tmp_path / "run")[name], rtol=0, atol=1e-5)


def test_a_killed_run_goes_on_from_its_last_checkpoint(unbroken: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    arguments = tiny_world.arguments(tmp_path / "run")
    kill = fault("Signal", name="SIGKILL", step=5)
    process = get_context("fork").Process(target=lambda: os._exit(train.main([*arguments, *kill])))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "run" / "adapter.safetensors").exists()
    assert train.main(arguments) == 0
    assert same(adapter(tmp_path / "run"), adapter(unbroken))
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["steps_of_this_start"] == 2


def test_a_run_that_saves_at_other_steps_goes_on_in_the_same_checkpoint(tiny_world: TinyWorld, tmp_path: Path) -> None:
    stop = fault("Signal", name="SIGTERM", step=3)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert train.main([*tiny_world.arguments(tmp_path / "run", checkpoint_every=2), *stop]) == 143
    assert {path.name for path in checkpoints.iterdir()} == {"last.ckpt", "interrupted.ckpt"}
    assert train.main(tiny_world.arguments(tmp_path / "run", checkpoint_every=4)) == 0
    assert {path.name for path in checkpoints.iterdir()} == {"last.ckpt"}
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == STEPS


def test_sigterm_within_an_accumulated_step_waits_for_the_whole_of_it(tiny_world: TinyWorld, tmp_path: Path) -> None:
    settings = {"trainer.accumulate_grad_batches": 2, "trainer.max_steps": 3, "data.first_stage": "null"}
    assert train.main(tiny_world.arguments(tmp_path / "whole", **settings)) == 0
    arguments = tiny_world.arguments(tmp_path / "run", checkpoint_every=100, **settings)
    stop = fault("Signal", name="SIGTERM", step=2)
    assert train.main([*arguments, *stop]) == 143  # told in the first of the step's two batches
    assert train.main(arguments) == 0
    assert same(adapter(tmp_path / "run"), adapter(tmp_path / "whole"))


@pytest.mark.parametrize("requests", [1, 3], ids=["none for one of them", "one batch more for one of them"])
def test_processes_with_unequal_shares_of_the_validation_end_together(
    tiny_world: TinyWorld, tmp_path: Path, requests: int
) -> None:
    """What they do together, scores and whatever comes after, would wait for ever for one that leaves something out."""
    settings = {"data.validation.prompts": list(tiny_world.prompts[:requests]), "data.validation.batch_size": 1}
    arguments = tiny_world.arguments(tmp_path / "run", **{**validated(tiny_world), **settings, "trainer.devices": 2})
    assert train.main([*arguments, FORK]) == 0
    assert "val/detection_rate" in scalars(tmp_path / "run")


def test_two_processes_end_with_the_same_weights_and_scores(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **validated(tiny_world), **{"trainer.devices": 2})
    assert train.main([*arguments, FORK]) == 0
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["processes"] == 2
    one, two = adapter(unbroken), adapter(tmp_path / "run")
    assert one.keys() == two.keys()
    for name, value in two.items():
        torch.testing.assert_close(value, one[name], rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    first, second = scalars(unbroken), scalars(tmp_path / "run")
    for name in [name for name in first if name.startswith("val/")]:
        assert second[name] == pytest.approx(first[name], abs=1e-3, nan_ok=True), name


def test_devices_alone_make_a_run_of_several_processes(unbroken: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    """No strategy is named, and each stage leaves parameters of the other without a gradient."""
    arguments = tiny_world.arguments(tmp_path / "run", **{"trainer.devices": 2})
    done = subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["processes"] == 2
    two = adapter(tmp_path / "run")
    for name, value in adapter(unbroken).items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=1e-5)


def test_a_new_run_starts_from_the_adapter_of_another(unbroken: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    still = {"model.learning_rate": 0.0, "model.expert_learning_rate": 0.0, "trainer.max_steps": 1}
    assert train.main(tiny_world.arguments(tmp_path / "run", start_from=unbroken, **still)) == 0
    assert same(adapter(tmp_path / "run"), adapter(unbroken))
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["steps"] == 1


def mistakes(world: TinyWorld, unbroken: Path, folder: Path) -> dict[str, tuple[dict[str, object], list[str]]]:
    """What a user may get wrong: settings, and what the one line must say."""
    other = folder / "other-base"
    return {
        "key": ({"model.orthogonality_wieght": 0.2}, ["orthogonality_wieght", "did you mean", "orthogonality_weight?"]),
        "trainer key": ({"trainer.max_step": 3}, ["trainer.max_step", "did you mean trainer.max_steps?"]),
        "data key": ({"data.sourc": "x"}, ["data.sourc", "did you mean data.source?"]),
        "stage's key": (
            {"data.first_stage.init_args.stepz": 3},
            ["error: there is no setting data.first_stage.stepz; did you mean data.first_stage.steps?"],
        ),
        "drops": ({"data.drops.text": 2.0}, ["data.drops", "must add up to 1 at most"]),
        "drops key": ({"data.drops.identty": 0.1}, ["data.drops.identty", "did you mean data.drops.identity?"]),
        "method": ({"model": "lightning_modules.SpotDif"}, ["SpotDif"]),
        "type": ({"trainer.max_steps": "many"}, ["max_steps", "many"]),
        "choice": ({"model.orthogonality": "sometimes"}, ["orthogonality", "sometimes"]),
        "file": ({"config": folder / "nowhere.yaml"}, ["nowhere.yaml"]),
        "dataset": ({"data.source": folder / "nowhere"}, ["dataset", "nowhere", "is missing"]),
        "base model": ({"model.backbone": folder / "no-base"}, ["no model folder at", "no-base"]),
        "image encoder": ({"data.features.clip.encoder": folder / "no-clip"}, ["no model folder at", "no-clip"]),
        "feature's name": ({"data.features": {"clop": {}}}, ["unknown feature 'clop'; did you mean clip?"]),
        "feature's setting": (
            {"data.features": {"clip": {"encodr": "x"}}},
            ["data.features.clip has no setting 'encodr'; did you mean encoder?"],
        ),
        "width": ({"model.image_width": 7}, ["model.image_width is 7", "32"]),
        "batch": ({"data.batch_size": 0}, ["batch_size is 0"]),
        "resolution": ({"data.resolution": 8}, ["data.resolution is 8", f"give data.resolution {SIDE}"]),
        "feature": (
            {"data.features": world.wplus_feature()},
            ["data.features has wplus, the method needs 'clip': give data.features.clip with its settings (encoder)"],
        ),
        "accelerator": ({"trainer.accelerator": "mps" if torch.cuda.is_available() else "cuda"}, ["accelerator"]),
        "precision": ({"trainer.precision": "bf16-true"}, ["trainer.precision bf16-true", "take bf16-mixed"]),
        "batch of two processes": (
            {"data.batch_size": 5, "trainer.devices": 2, "trainer.strategy": "ddp_fork_find_unused_parameters_true"},
            ["batch_size 5", "use 4 or 6"],
        ),
        "judge": ({"judges.faces": folder / "no-faces", "judges.clip": world.clip}, ["no-faces", "not a folder"]),
        "adapter": ({"start_from": folder / "no-run"}, ["no adapter at", "no-run"]),
        "other base": (
            {"start_from": unbroken, "model.backbone": other, "data.backbone": other},
            ["was trained for backbone"],
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "key", "trainer key", "data key", "stage's key", "drops key", "drops", "method", "type", "choice", "file",
        "dataset", "base model", "image encoder", "feature's name", "feature's setting", "width",
        "batch", "resolution", "feature", "accelerator", "precision",
        "batch of two processes", "judge", "adapter", "other base",
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    settings, words = mistakes(tiny_world, unbroken, tmp_path)[name]
    settings = {"data.cache_dir": tmp_path / "cache", **settings}
    if name == "other base":
        tiny_base(tmp_path / "other-base", seed=1)
    assert train.main(tiny_world.arguments(tmp_path / "run", **settings)) == 2
    output = capfd.readouterr()
    lines = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in output.err + output.out
    assert output.err.splitlines()[-1] == lines[0]
    assert [word for word in words if word not in lines[0]] == [], lines[0]
    left = [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".safetensors", ".ckpt", ".json")]
    assert not left
    assert not list((tmp_path / "cache").rglob("*.safetensors")), "encoded before the settings were looked at"


def test_a_misspelt_key_in_a_file_is_named(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("trainer:\n  max_stepz: 3\n")
    assert train.main([*tiny_world.arguments(tmp_path / "run"), f"--config={file}"]) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "max_stepz" in error and "did you mean trainer.max_steps?" in error


def test_a_checkpoint_of_other_batches_is_refused(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(unbroken, tmp_path / "again"))
    before = adapter(output)
    changed = {"data.batch_size": 8, "trainer.max_steps": STEPS + 1}
    assert train.main(tiny_world.arguments(output, **changed)) == 2
    assert "was trained with data.batch_size 4, here it is 8: give that again" in capfd.readouterr().err
    assert same(adapter(output), before)


def test_a_setting_that_would_change_within_a_run_is_refused(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The optimiser's state would bring the old rate back, and the new one would stand in the configuration."""
    output = Path(shutil.copytree(unbroken, tmp_path / "again"))
    changed = {"model.learning_rate": 5e-4, "trainer.max_steps": STEPS + 1}
    assert train.main(tiny_world.arguments(output, **changed)) == 2
    assert "was trained with model.learning_rate 0.001, here it is 0.0005" in capfd.readouterr().err
    assert files(output) == files(unbroken)


@pytest.mark.skipif(not (WEIGHTS / "manifest.json").is_file(), reason="the pocket models are not there")
@pytest.mark.parametrize("config", sorted((ROOT / "configs" / "pocket").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_pocket_configuration_runs(
    config: Path, tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    data = yaml.safe_load(config.read_text())["data"]
    given = [value for feature in data.get("features", {}).values() for value in feature.values()]
    if not all(Path(value).exists() for value in given if isinstance(value, str)):
        pytest.skip("the pocket encoders are not there")
    stage = data.get("first_stage", {"init_args": {}})["init_args"]
    first_stage = {name: value for name, value in {"steps": 2, "batch_size": 8}.items() if name in stage}
    small = {
        "output": tmp_path / "run",
        "data.source": tiny_world.dataset,
        "data.cache_dir": tiny_world.cache,
        "data.batch_size": 4,
        **{f"data.first_stage.init_args.{name}": value for name, value in first_stage.items()},
        "data.validation.subjects": 1,
        "trainer.accelerator": "cpu",
        "trainer.max_steps": 4,
        "trainer.val_check_interval": 4,
        "trainer.log_every_n_steps": 1,
    }
    if config.stem == "dreambooth_lora":
        small["model.class_images"] = 4
    if not bfloat16_units(torch.device("cpu")):  # what the configurations ask for takes a minute each there
        small["trainer.precision"] = "32-true"
    assert train.main([f"--config={config}", *(f"--{key}={value}" for key, value in small.items())]) == 0
    found = scalars(tmp_path / "run")
    assert {"val/identity_misses_zero", "val/clip_t", "val/images"} <= set(found)
    assert Run(tmp_path / "run").load()


def test_accumulated_batches_train_as_the_whole_batch_does(tiny_world: TinyWorld, tmp_path: Path) -> None:
    few = {"trainer.max_steps": 3, "trainer.num_sanity_val_steps": 0}
    whole, parts, other = (tmp_path / name for name in ("whole", "parts", "other"))
    assert train.main(tiny_world.ip_adapter(whole, **few, **{"data.batch_size": 4})) == 0
    halves = {"data.batch_size": 2, "trainer.accumulate_grad_batches": 2}
    assert train.main(tiny_world.ip_adapter(parts, **few, **halves)) == 0
    assert train.main(tiny_world.ip_adapter(other, **few, **{"data.batch_size": 2})) == 0
    expected, found, without = (adapter(run) for run in (whole, parts, other))
    moved = max(float((expected[name] - without[name]).abs().max()) for name in expected)
    apart = max(float((expected[name] - found[name]).abs().max()) for name in expected)
    assert apart < 0.01 * moved, "up to the order of additions"


def test_a_method_without_idle_parts_needs_no_search_for_them(tiny_world: TinyWorld, tmp_path: Path) -> None:
    few = {"trainer.max_steps": 2, "trainer.num_sanity_val_steps": 0}
    one, two = tmp_path / "one", tmp_path / "two"
    assert train.main(tiny_world.ip_adapter(one, **few)) == 0
    both = {"trainer.devices": 2, "trainer.strategy": "ddp_fork"}
    assert train.main(tiny_world.ip_adapter(two, **few, **both)) == 0
    expected, found = adapter(one), adapter(two)
    assert all(torch.allclose(expected[name], value, atol=1e-6) for name, value in found.items())

"""PIDiff end to end on a world of the smallest size: both stages, resumed, and in two processes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import train
from lightning_modules.pidiff import PIDiff
from lightning_modules.run import Run
from networks.face_alignment import VERSION
from performance.faults.inject import fault
from pocket.tiny.components import tiny_wplus
from pocket.tiny.world import TinyWorld, stage

STEPS = 6


@pytest.fixture(scope="module")
def unbroken(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed, validated once."""
    output = tmp_path_factory.mktemp("pidiff") / "unbroken"
    judged = {"judges.faces": tiny_world.faces, "judges.clip": tiny_world.clip}
    validated = {"data.validation.prompts": list(tiny_world.prompts), "trainer.val_check_interval": STEPS}
    assert train.main(tiny_world.pidiff(output, **validated, **judged)) == 0
    return output


def alone(subject: str) -> dict[str, object]:
    """A phase on one person in place of aligned faces and pairs."""
    return {"data.first_stage": stage("faces.PersonStage", subject=subject)}


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter.safetensors")


def test_the_manifest_names_the_encoder_and_the_aligner(unbroken: Path) -> None:
    manifest = json.loads((unbroken / "manifest.json").read_text())
    assert manifest["method"] == "PIDiff" and manifest["steps"] == STEPS
    assert {"wplus", "wplus_background", "face_moments", "face"} <= set(manifest["encoders"])
    assert VERSION in manifest["encoders"]["wplus"]


def test_the_adapter_is_loaded_back(unbroken: Path) -> None:
    module = Run(unbroken).load()
    assert isinstance(module, PIDiff)
    assert set(adapter(unbroken)) == set(module.adapter().state_dict())


def test_sigterm_in_either_stage_and_the_same_command_goes_on(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    for step in (1, 4):
        arguments = tiny_world.pidiff(tmp_path / str(step), checkpoint_every=100)
        assert train.main([*arguments, *fault("Signal", name="SIGTERM", step=step)]) == 143
        assert train.main(arguments) == 0
        found, expected = adapter(tmp_path / str(step)), adapter(unbroken)
        assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data.first_stage": "null"}, "was trained with data.first_stage {'class_path': 'datamodules.batches.faces"),
        ({"model.levels": "four"}, "was trained with model.levels 'three', here it is 'four'"),
    ],
    ids=["batches", "model"],
)
def test_a_run_that_was_stopped_goes_on_with_its_own_settings_only(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict, words: str
) -> None:
    stop = fault("Signal", name="SIGTERM", step=1)
    assert train.main([*tiny_world.pidiff(tmp_path / "run", checkpoint_every=100), *stop]) == 143
    assert train.main(tiny_world.pidiff(tmp_path / "run", checkpoint_every=100, **change)) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and words in line and "another --output" in line, line


def test_two_processes_end_with_the_same_weights(unbroken: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    both = {"trainer.devices": 2, "trainer.strategy": "ddp_fork_find_unused_parameters_true"}
    assert train.main(tiny_world.pidiff(tmp_path / "run", **both)) == 0
    expected = adapter(unbroken)
    for name, value in adapter(tmp_path / "run").items():
        torch.testing.assert_close(
            value, expected[name], rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_centred_run_keeps_the_mean_code_in_its_adapter(tiny_world: TinyWorld, tmp_path: Path) -> None:
    given = tiny_world.pidiff(tmp_path / "run", **{"model.centred": True, "trainer.max_steps": 1})
    assert train.main(given) == 0
    mean = adapter(tmp_path / "run")["mapper.mean"]
    assert mean.shape == (10, 8) and mean.any()
    module = Run(tmp_path / "run").load()
    assert torch.equal(module.mapper.mean, mean)  # type: ignore[union-attr]


def test_a_short_phase_on_one_person_tunes_keys_and_values_only(
    unbroken: Path, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    person = {**alone("s0033"), "start_from": unbroken, "trainer.max_steps": 2}
    assert train.main(tiny_world.pidiff(tmp_path / "run", **person)) == 0
    before, after = adapter(unbroken), adapter(tmp_path / "run")
    for name, value in after.items():
        tuned = name.endswith(("to_k.weight", "to_v.weight"))
        assert torch.equal(value, before[name]) != tuned, name


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("decoder.conv1.noise.weight", None, "lacks decoder.conv1.noise.weight"),
        ("decoder.extra", torch.zeros(1), "has the unknown entry decoder.extra"),
        ("latent_avg", torch.zeros(12, 8), "is of another size: latent_avg is (12, 8), expected (10, 8)"),
    ],
    ids=["missing", "extra", "size"],
)
def test_an_encoder_that_does_not_fit_is_one_line(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, value: object, words: str
) -> None:
    file = tiny_wplus(tmp_path / "wplus") / "model.safetensors"
    tensors = {key: tensor for key, tensor in load_file(file).items() if key != name}
    save_file(tensors | ({} if value is None else {name: value}), file, metadata={"format": "pt"})
    changes = {
        "data.features": tiny_world.wplus_feature(encoder=str(tmp_path / "wplus")),
        "data.cache_dir": tmp_path / "cache",
    }
    assert train.main(tiny_world.pidiff(tmp_path / "run", **changes)) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and words in line, line
    assert not list((tmp_path / "cache").rglob("*.safetensors")), "encoded before the encoder was looked at"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.code_rows": 12}, ["model.code_rows", "12 x 8", "10 x 8"]),
        ({"model.code_rows": 8}, ["model.code_rows is 8", "10 rows or more"]),
        ({"model.tokens_per_level": 0}, ["model.tokens_per_level is 0"]),
        ({"model.mapper_hidden": 0}, ["model.mapper_hidden is 0"]),
        ({"model.delay": 1.5}, ["model.delay is 1.5", "0..1"]),
        ({"model.scale": -5}, ["model.scale is -5.0", "0 or more"]),
        ({"model.background_weight": ".nan"}, ["model.background_weight is nan", "0 or more"]),
        ({"model.levels": "five"}, ["levels", "five"]),
        ({"data.features": "{wplus: {detector: null}}"}, ["data.features.wplus.encoder is missing", "detector: ..."]),
        ({"data.features": "{wplus: {encoder: no-such-folder, detector: null}}"}, ["no-such-folder"]),
        ({"data.features.wplus": "{encoder: pocket/weights/style, detector: no-such-pack}"}, ["no-such-pack"]),
        ({"data.first_stage.init_args.texts": "[]"}, ["data.first_stage.texts is empty"]),
        ({"data.first_stage.init_args.steps": 0}, ["data.first_stage.steps is 0", "data.first_stage null"]),
        ({"data.features": "{}"}, ["add wplus to data.features"]),
        ({"data.features": "{}", "data.first_stage": "null"}, ["data.features has no feature", "needs 'wplus'"]),
        (alone("s0099"), ["data.first_stage.subject 's0099' has no photo"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_line(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict, words: list[str]
) -> None:
    changes = {"data.cache_dir": tmp_path / "cache", **changes}
    assert train.main(tiny_world.pidiff(tmp_path / "run", **changes)) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and not [word for word in words if word not in line], line
    assert not list(tmp_path.rglob("*.safetensors")), "encoded before the settings were looked at"

"""IP-Adapter Plus, IP-Adapter FaceID and W+ Adapter end to end on a world of the smallest size: whole, stopped and gone
on with, in two processes, and evaluated."""

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import evaluate
import train
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from lightning_modules.run import Run
from performance.faults.inject import fault
from pocket.tiny.world import TinyWorld

METHODS = ("ip_adapter_plus", "ip_adapter_faceid", "wplus_adapter")
pytestmark = pytest.mark.parametrize("method", METHODS)


def arguments(world: TinyWorld, method: str, output: Path, **changes: object) -> list[str]:
    """An evaluation knows no landmarks, so the methods that read faces have a detector."""
    faces = {"ip_adapter_faceid": world.face_feature, "wplus_adapter": world.wplus_feature}
    given = {"data.features": faces[method](detector=str(world.faces))} if method in faces else {}
    return getattr(world, method)(output, **given, **changes)


def trained(world: TinyWorld, method: str, output: Path, **changes: object) -> Path:
    assert train.main(arguments(world, method, output, **changes)) == 0
    return output


@pytest.fixture(scope="module")
def unbroken(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory):
    """By method: a run that nothing disturbed."""
    return cache(lambda method: trained(tiny_world, method, tmp_path_factory.mktemp(method) / "unbroken"))


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter.safetensors")


def test_a_run_that_was_stopped_ends_with_the_same_weights(
    method: str, unbroken, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    given = arguments(tiny_world, method, tmp_path / "run", checkpoint_every=100)
    assert train.main([*given, *fault("Signal", name="SIGTERM", step=3)]) == 143
    assert train.main(given) == 0
    found, expected = adapter(tmp_path / "run"), adapter(unbroken(method))
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_two_processes_end_with_the_weights_of_one(
    method: str, unbroken, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    both = {"trainer.devices": 2, "trainer.strategy": "ddp_fork_find_unused_parameters_true"}
    found, expected = adapter(trained(tiny_world, method, tmp_path / "run", **both)), adapter(unbroken(method))
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_run_is_an_entry_and_its_manifest_names_the_encoder(
    method: str, unbroken, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    run = Run(unbroken(method))
    module = run.load()
    assert set(module.needs) <= set(run.manifest["encoders"])
    assert set(adapter(run.folder)) == set(module.adapter().state_dict())
    given = tiny_world.evaluation(tmp_path / "results")
    assert evaluate.main([*given, "--stage", "generate", "--runs", f"{method}={run.folder}"]) == 0
    assert len(list((tmp_path / "results" / "entries" / method / "images").glob("*.png"))) == 2 * 3 * 2


def test_what_no_image_is_comes_from_the_encoder(method: str, unbroken, tiny_world: TinyWorld) -> None:
    parts = adapter(unbroken(method))
    assert ("blank" in parts) == (method == "ip_adapter_plus")
    if method == "ip_adapter_plus":
        settings = {"clip_patches": {"encoder": str(tiny_world.clip)}}
        feature = make_features(settings, settings, EncoderContext(str(tiny_world.base), 64))["clip_patches"]
        assert torch.equal(parts["blank"], feature.nothing()) and parts["blank"].any()

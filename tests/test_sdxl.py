"""Every method on a base model like SDXL, through the commands: trained or enrolled, generated and ranked."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import evaluate
import generate
import train
from performance.faults.compare import run_differences
from performance.faults.inject import fault
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID, TinyWorld
from tests.helpers.batches import METHODS
from tests.training.test_interruptions import in_a_process

FEW = {"trainer__max_steps": 3, "checkpoint_every": 3}
FEW_OF_EACH = {"data__enrolment__steps": 2, "trainer__precision": "bf16-mixed"}
TRAINED: dict[str, Callable[..., list[str]]] = {
    "SpotDiff": TinyWorld.arguments,
    "PIDiff": TinyWorld.pidiff,
    "W+ Adapter": TinyWorld.wplus_adapter,
    "IPAdapter": TinyWorld.ip_adapter,
    "IPAdapterPlus": TinyWorld.ip_adapter_plus,
    "IPAdapterFaceID": TinyWorld.ip_adapter_faceid,
}
OF_FACES = {
    "PIDiff": TinyWorld.wplus_feature,
    "W+ Adapter": TinyWorld.wplus_feature,
    "IPAdapterFaceID": TinyWorld.face_feature,
}
ENROLLED = ("SefiIDE", "TextualInversion", "DreamBoothLoRA")
Trained = Callable[[str], Path]


def arguments(world: TinyWorld, name: str, output: Path, **more: object) -> list[str]:
    """Arguments of ``train.main`` for a short training of a method, of some in bfloat16."""
    if name in ENROLLED:
        return world.enrolment(name, output, None, **{**FEW_OF_EACH, **more})
    found_by = {"detector": str(world.faces), "det_size": [128]}
    features = {"data.features": OF_FACES[name](world, **found_by)} if name in OF_FACES else {}
    return TRAINED[name](world, output, **{**FEW, **features, **more})


@pytest.fixture(scope="module")
def world(tiny_world: TinyWorld, sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return replace(tiny_world, base=sdxl_folder, cache=tmp_path_factory.mktemp("sdxl") / "cache")


@pytest.fixture(scope="module")
def trained(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run of a method by its name, trained when it is first asked for."""
    root = tmp_path_factory.mktemp("runs")

    def make(name: str) -> Path:
        run = root / name.lower().replace(" ", "_").replace("+", "plus")
        if not run.exists():
            assert train.main(arguments(world, name, run)) == 0
        return run

    return make


def test_every_method_is_here() -> None:
    assert {method.__name__ for method in METHODS} == {*TRAINED, *ENROLLED} - {"W+ Adapter"}


def test_every_method_is_trained_generated_and_ranked(world: TinyWorld, trained: Trained, tmp_path: Path) -> None:
    """W+ Adapter is PIDiff with other settings."""
    output, runs = tmp_path / "results", [trained(name) for name in (*TRAINED, *ENROLLED)]
    few = {"protocol__samples": 1, "protocol__steps": 1}
    given = world.evaluation(output, **few)
    assert evaluate.main([*given, "--runs", *map(str, runs)]) == 0
    board: dict[str, Any] = json.loads((output / "leaderboard.json").read_text())
    rows = {row["label"]: row for row in board["entries"]}
    for run in runs:
        assert rows[run.name]["metrics"]["clip_t"]["n"] == 2
        assert rows[run.name]["kind"] == "method"
    assert {"prompt-only", "real-photo"} <= rows.keys()


def test_a_photo_of_ones_own_is_generated(trained: Trained, tmp_path: Path) -> None:
    """An encoder method by one forward pass, and one that is optimised now."""
    photo = tmp_path / "me.png"
    photo.write_bytes(rows_of(36, GRID)[0]["image"]["bytes"])
    few = ["--steps=1", "--samples=1", "--prompts", "a photo of a <subject>"]
    for name, more in (("SpotDiff", []), ("TextualInversion", ["--enrol_steps=2"])):
        output = tmp_path / name
        given = ["--run", str(trained(name)), "--photo", f"person={photo}", "--output", str(output)]
        assert generate.main([*given, *few, *more]) == 0
        assert list(output.rglob("*.png"))


def test_two_processes_train_as_one(world: TinyWorld, tmp_path: Path) -> None:
    """Pooled text and sizes are shared out with everything else."""
    weights = []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        more = {"trainer__devices": devices, "trainer__strategy": "auto" if devices == 1 else "ddp_fork"}
        assert train.main(world.ip_adapter(run, **FEW, **more)) == 0
        weights.append(load_file(run / "adapter.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "steps"), [("IPAdapter", 3), ("SefiIDE", 2)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    world: TinyWorld, trained: Trained, tmp_path: Path, name: str, steps: int
) -> None:
    """Killed in its last step, with weights, optimiser and logged values of the steps before in its checkpoint."""
    given = arguments(world, name, tmp_path / "run", checkpoint_every=1)
    assert in_a_process([*given, *fault("Signal", name="SIGKILL", step=steps)]) == -signal.SIGKILL
    assert train.main(given) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["steps"], manifest["steps_of_this_start"]) == (steps, 1)
    assert run_differences(tmp_path / "run", trained(name)) == []

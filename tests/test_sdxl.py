"""Every method on a base model like SDXL, through the commands: trained or enrolled, generated and ranked."""

import json
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
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID, TinyWorld
from tests.helpers.batches import METHODS

FEW = {"trainer__max_steps": 3, "checkpoint_every": 3}
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


@pytest.fixture(scope="module")
def world(tiny_world: TinyWorld, sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return replace(tiny_world, base=sdxl_folder, cache=tmp_path_factory.mktemp("sdxl") / "cache")


@pytest.fixture(scope="module")
def runs(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short training of every method, of some in bfloat16; W+ Adapter is PIDiff with other settings."""
    root, found = tmp_path_factory.mktemp("runs"), {}
    for name, arguments in TRAINED.items():
        found[name] = root / name.lower().replace(" ", "_").replace("+", "plus")
        found_by = {"detector": str(world.faces), "det_size": [128]}
        features = {"data.features": OF_FACES[name](world, **found_by)} if name in OF_FACES else {}
        assert train.main(arguments(world, found[name], **FEW, **features)) == 0
    for name in ENROLLED:
        found[name] = root / name.lower()
        assert (
            train.main(
                world.enrolment(name, found[name], None, data__enrolment__steps=2, trainer__precision="bf16-mixed")
            )
            == 0
        )
    return found


def test_every_method_is_here() -> None:
    assert {method.__name__ for method in METHODS} == {*TRAINED, *ENROLLED} - {"W+ Adapter"}


def test_every_method_is_trained_generated_and_ranked(world: TinyWorld, runs: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "results"
    few = {"protocol__samples": 1, "protocol__steps": 1}
    given = world.evaluation(output, **few)
    assert evaluate.main([*given, "--runs", *map(str, runs.values())]) == 0
    board: dict[str, Any] = json.loads((output / "leaderboard.json").read_text())
    rows = {row["label"]: row for row in board["entries"]}
    for run in runs.values():
        assert rows[run.name]["metrics"]["clip_t"]["n"] == 2
        assert rows[run.name]["kind"] == "method"
    assert {"prompt-only", "real-photo"} <= rows.keys()


def test_a_photo_of_ones_own_is_generated(world: TinyWorld, runs: dict[str, Path], tmp_path: Path) -> None:
    """An encoder method by one forward pass, and one that is optimised now."""
    photo = tmp_path / "me.png"
    photo.write_bytes(rows_of(36, GRID)[0]["image"]["bytes"])
    few = ["--steps=1", "--samples=1", "--prompts", "a photo of a <subject>"]
    for name, more in (("SpotDiff", []), ("TextualInversion", ["--enrol_steps=2"])):
        output = tmp_path / name
        given = ["--run", str(runs[name]), "--photo", f"person={photo}", "--output", str(output)]
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

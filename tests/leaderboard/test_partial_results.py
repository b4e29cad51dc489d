"""What is missing or broken in one entry costs the others nothing."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluate import main
from leaderboard.results.folder import Results
from networks.adapter_file import read_adapter, write_adapter
from tests.leaderboard.conftest import World

IMAGES = 2 * 3 * 2  # subjects x prompts x samples


def evaluate(world: World, output: Path, *more: str) -> int:
    return main(["--config", str(world.config), "--output", str(output), *more])


def labels(output: Path) -> list[str]:
    return [entry["label"] for entry in json.loads((output / "leaderboard.json").read_text())["entries"]]


def rows_with(method: str) -> list[str]:
    """The labels of a board with one method, in their order."""
    return ["real-photo", "reconstruction", method, "described", "prompt-only"]


def cut(output: Path, label: str, keep: int) -> None:
    for path in sorted((output / "entries" / label / "images").iterdir())[keep:]:
        path.unlink()


def broken(world: World, folder: Path) -> Path:
    """A run whose adapter lacks half of its weights, which is seen when it is to generate."""
    run = world.make_run(folder, seed=3)
    path = run / "adapter.safetensors"
    weights, about = read_adapter(path)
    write_adapter(path, {name: weights[name] for name in sorted(weights)[::2]}, about)
    return run


def error_line(capfd: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What was said, and the one line of error."""
    said = capfd.readouterr()
    (line,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    return said.out, line


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_entry_that_is_generated_in_part_blocks_nobody(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], processes: str
) -> None:
    output = tmp_path / "results"
    assert evaluate(world, output, "--runs", f"half={world.run}", "--stage", "generate") == 0
    cut(output, "half", keep=3)
    capfd.readouterr()
    other = world.make_run(tmp_path / "other", seed=3)
    assert evaluate(world, output, "--runs", str(other), "--trainer.devices", processes) == 0
    assert f"left out half: 3 of {IMAGES} images are generated\n" in capfd.readouterr().out
    assert labels(output) == rows_with("other")
    assert not list(Results(output).entry("half").root.glob("records.jsonl"))

    assert evaluate(world, output, "--runs", f"half={world.run}", "--stage", "score") == 2
    _, line = error_line(capfd)
    assert "error: half: " in line and line.endswith(".png is missing: run `--stage generate` first")
    assert evaluate(world, output, "--runs", f"half={world.run}") == 0
    assert sorted(labels(output)) == sorted(["half", *rows_with("other")])


def test_an_anchor_that_fails_and_is_not_needed_costs_the_others_nothing(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert evaluate(world, output, "--runs", str(world.run), "--stage", "generate") == 0
    path = sorted((output / "entries" / "described" / "images").iterdir())[1]
    path.write_bytes(path.read_bytes()[:100])
    assert evaluate(world, output, "--runs", str(world.run)) == 2
    assert f"error: described: {path}" in error_line(capfd)[1]
    assert labels(output) == [label for label in rows_with(world.run.name) if label != "described"]
    assert "left out described" in " ".join(json.loads((output / "leaderboard.json").read_text())["notes"])


def test_without_the_floor_nothing_can_be_compared(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert evaluate(world, output, "--stage", "generate") == 0
    cut(output, "prompt-only", keep=3)
    assert evaluate(world, output, "--stage", "score") == 2
    assert "prompt-only" in error_line(capfd)[1]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_that_fails_while_it_generates_costs_the_others_nothing(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], processes: str
) -> None:
    output = tmp_path / "results"
    bad, good = broken(world, tmp_path / "bad"), world.make_run(tmp_path / "good", seed=4)
    assert evaluate(world, output, "--runs", str(bad), str(good), "--trainer.devices", processes) == 2
    out, line = error_line(capfd)
    assert line.startswith("error: bad: ") and f"left out {line.removeprefix('error: ')}" in out
    assert f"left out bad: 0 of {IMAGES} images are generated\n" in out
    assert labels(output) == rows_with("good")


def test_a_damaged_image_of_one_entry_costs_the_others_nothing(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    runs = ["--runs", f"a={world.run}", f"b={world.make_run(tmp_path / 'b', seed=4)}"]
    assert evaluate(world, output, *runs, "--stage", "generate") == 0
    path = sorted((output / "entries" / "a" / "images").iterdir())[4]
    path.write_bytes(path.read_bytes()[:100])
    assert evaluate(world, output, *runs) == 2
    assert f"error: a: {path}" in error_line(capfd)[1]
    assert labels(output) == rows_with("b")


@pytest.mark.parametrize("named", [False, True])
def test_where_nothing_is_generated_there_is_nothing_to_score(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], named: bool
) -> None:
    output = tmp_path / "results"
    runs = ["--runs", str(world.run)] if named else []
    assert evaluate(world, output, "--stage", "score", *runs) == 2
    assert error_line(capfd)[1] == f"error: nothing to score in {output}: run `--stage generate` first"
    assert not output.exists()


def test_a_run_that_was_never_generated_is_not_passed_over(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert evaluate(world, output, "--stage", "generate") == 0
    assert evaluate(world, output, "--stage", "score", "--runs", f"new={world.run}") == 2
    assert error_line(capfd)[1] == "error: nothing is generated of new: run `--stage generate` first"


def test_an_image_of_one_colour_is_counted(world: World, tmp_path: Path) -> None:
    output = tmp_path / "results"
    assert evaluate(world, output, "--runs", str(world.run), "--stage", "generate") == 0
    path = sorted((output / "entries" / world.run.name / "images").iterdir())[0]
    Image.new("RGB", Image.open(path).size, (90, 90, 90)).save(path)
    assert evaluate(world, output) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    counts = {entry["label"]: entry["counts"]["blank"] for entry in board["entries"]}
    assert counts == dict.fromkeys(rows_with(world.run.name), 0) | {world.run.name: 1}


def test_a_method_of_nan_is_scored_as_the_nothing_it_generates(world: World, tmp_path: Path) -> None:
    run, output = world.make_run(tmp_path / "nan", seed=4), tmp_path / "results"
    path = run / "adapter.safetensors"
    weights, about = read_adapter(path)
    write_adapter(path, {name: torch.full_like(w, torch.nan) for name, w in weights.items()}, about)
    assert evaluate(world, output, "--runs", str(run)) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    counts = next(entry["counts"] for entry in board["entries"] if entry["label"] == "nan")
    assert (counts["images"], counts["blank"], counts["without_face"]) == (IMAGES, IMAGES, IMAGES)

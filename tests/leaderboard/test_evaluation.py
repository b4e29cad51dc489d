"""The three stages end to end, on real components of the smallest size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.files import file_sha256
from evaluate import main
from leaderboard.results.costs import VARYING
from leaderboard.results.folder import Results
from pocket.tiny.components import tiny_base
from tests.leaderboard.conftest import World

IMAGES = 2 * 3 * 2  # subjects x prompts x samples


def evaluate(world: World, output: Path, *more: str, config: Path | None = None) -> int:
    return main(["--config", str(config or world.config), "--output", str(output), *more])


def timeless(output: Path) -> dict:
    board = json.loads((output / "leaderboard.json").read_text())
    for entry in board["entries"]:
        for name in VARYING:
            entry["costs"].pop(name)
    return board


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(pattern)) if path.is_file()
    }


def written_at(folder: Path, pattern: str) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation of a run, made by one process. Tests copy it before they change it."""
    output = tmp_path_factory.mktemp("results") / "tiny"
    assert evaluate(world, output, "--runs", str(world.run)) == 0
    return output


def test_the_leaderboard_has_its_documented_form(finished: Path, world: World) -> None:
    board = json.loads((finished / "leaderboard.json").read_text())
    kinds = {entry["label"]: entry["kind"] for entry in board["entries"]}
    anchors = {"real-photo": "ceiling", "reconstruction": "reconstruction", "described": "described"}
    assert kinds == {**anchors, world.run.name: "method", "prompt-only": "floor"}
    assert list(kinds.values()) == ["ceiling", "reconstruction", "method", "described", "floor"]
    rows = {entry["kind"]: entry["metrics"] for entry in board["entries"]}
    for metrics in rows.values():
        assert all(set(found) == {"value", "low", "high", "n"} for found in metrics.values())
        assert set(metrics) == set(board["metrics"])
    assert rows["ceiling"]["detection_rate"]["value"] == 1.0
    assert rows["ceiling"]["identity_recovered"]["value"] == pytest.approx(1.0)
    assert rows["floor"]["identity_recovered"]["value"] == pytest.approx(0.0)
    # An untrained CLIP may find every prompt unfit; then there is nothing to keep.
    fits = rows["floor"]["clip_t"]["value"] > 0
    assert rows["floor"]["prompt_kept"]["value"] == (pytest.approx(1.0) if fits else None)
    assert rows["method"]["clip_t"]["n"] == 2
    assert board["protocol"]["images"] == IMAGES
    method = board["entries"][2]
    assert method["costs"]["seconds_per_image"] > 0
    assert method["costs"]["trainable_parameters"] == 123
    enrolments = {entry["kind"]: entry["costs"]["enrol_seconds"] for entry in board["entries"]}
    assert enrolments["method"] > 0, "its manifest does not say it: a photo was encoded against the clock"
    assert enrolments["floor"] is enrolments["ceiling"] is None


def test_every_request_has_one_image_and_one_record(finished: Path, world: World) -> None:
    results = Results(finished)
    planned = [request.id for request in results.protocol().requests]
    assert len(set(planned)) == IMAGES
    for label in ("prompt-only", "real-photo", world.run.name):
        folder = results.entry(label)
        assert {path.stem for path in (folder.root / "images").iterdir()} == set(planned)
        lines = (folder.root / "records.jsonl").read_text().splitlines()
        assert [json.loads(line)["request_id"] for line in lines] == planned
        assert not list(folder.root.glob("shards/*"))


def test_images_say_what_they_are(finished: Path, world: World) -> None:
    path = next((finished / "entries" / world.run.name / "images").iterdir())
    origin = json.loads(Image.open(path).text["Likeness"])
    assert origin["synthetic"] is True
    assert origin["protocol"] == Results(finished).protocol().hash
    assert origin["request"] == path.stem
    photo = next((finished / "entries" / "real-photo" / "images").iterdir())
    assert "photo" in json.loads(Image.open(photo).text["Likeness"])


def test_a_second_start_does_nothing_again(finished: Path, world: World, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "again"))
    before = written_at(output, "*.png")
    assert evaluate(world, output, "--runs", str(world.run)) == 0
    after = written_at(output, "*.png")
    before.pop("grid.png"), after.pop("grid.png")
    assert after == before
    assert (output / "leaderboard.json").read_bytes() == (finished / "leaderboard.json").read_bytes()
    for label in ("prompt-only", "real-photo", world.run.name):
        assert contents(output / "entries" / label, "*.jsonl") == contents(finished / "entries" / label, "*.jsonl")


@pytest.mark.parametrize("processes", [1, 2])
def test_interrupted_and_gone_on_with_any_process_count(
    finished: Path, world: World, tmp_path: Path, processes: int
) -> None:
    """Lose images and records, leave a half-written line and file: the same bytes come back, and only the lost ones.

    With two processes only one batch is unfinished, so one of them has no image to generate.
    """
    output = Path(shutil.copytree(finished, tmp_path / "cut"))
    entry = output / "entries" / world.run.name
    lost = sorted((entry / "images").iterdir())[:: 4 if processes == 1 else IMAGES]
    for path in lost:
        path.unlink()
    (entry / "images" / ".likeness-0123.part").write_bytes(b"half")
    lines = (entry / "records.jsonl").read_bytes().splitlines(keepends=True)
    (entry / "records.jsonl").unlink()
    (entry / "shards").mkdir(exist_ok=True)
    (entry / "shards" / "00000.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
    kept = written_at(entry / "images", "*.png")

    assert evaluate(world, output, "--runs", str(world.run), "--trainer.devices", str(processes)) == 0
    assert contents(entry / "images", "*.png") == contents(finished / "entries" / world.run.name / "images", "*.png")
    after = written_at(entry / "images", "*.png")
    assert {name: after[name] for name in kept} == kept
    assert not (entry / "images" / ".likeness-0123.part").exists()
    assert (entry / "records.jsonl").read_bytes() == b"".join(lines)
    assert timeless(output) == timeless(finished)


def test_a_record_of_a_killed_process_is_older_than_what_is_scored_now(
    finished: Path, world: World, tmp_path: Path
) -> None:
    """The killed pass had more processes: its record lies in the log of a higher rank than the one that scores."""
    output = Path(shutil.copytree(finished, tmp_path / "killed"))
    folder = Results(output).entry(world.run.name)
    (folder.root / "shards").mkdir(exist_ok=True)
    (folder.root / "records.jsonl").rename(folder.record_log(1))
    image, other = (folder.image(request.id) for request in Results(output).protocol().requests[:2])
    image.write_bytes(other.read_bytes())
    for _ in range(2):
        assert evaluate(world, output, "--stage", "score") == 0
        assert folder.records()[image.stem].image_sha256 == file_sha256(image)
    assert not list(folder.root.glob("shards/*"))


def test_two_processes_give_the_same_bytes(finished: Path, world: World, tmp_path: Path) -> None:
    output = tmp_path / "two"
    assert evaluate(world, output, "--runs", str(world.run), "--trainer.devices", "2") == 0
    for pattern in ("images/*.png", "records.jsonl"):
        assert contents(output / "entries", f"*/{pattern}") == contents(finished / "entries", f"*/{pattern}")
    assert timeless(output) == timeless(finished)
    assert (output / "grid.png").read_bytes() == (finished / "grid.png").read_bytes()


def test_the_batch_size_moves_no_pixel_by_more_than_one(finished: Path, world: World, tmp_path: Path) -> None:
    output = tmp_path / "single"
    more = ("--runs", str(world.run), "--batch_size", "1", "--stage", "generate")
    assert evaluate(world, output, *more) == 0
    images = sorted(output.glob("entries/*/images/*.png"))
    assert len(images) == 5 * IMAGES
    for path in images:
        one, many = (np.asarray(Image.open(p)).astype(int) for p in (path, finished / path.relative_to(output)))
        assert np.abs(one - many).max() <= 1


def test_the_report_needs_no_model(finished: Path, world: World, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "report"))
    for name in ("leaderboard.json", "leaderboard.csv", "leaderboard.md", "grid.png"):
        (output / name).unlink()
    config = world.change(backbone="gone", dataset="gone")
    assert evaluate(world, output, "--stage", "report", config=config) == 0
    for name in ("leaderboard.json", "leaderboard.csv", "leaderboard.md", "grid.png"):
        assert (output / name).read_bytes() == (finished / name).read_bytes()


def test_another_protocol_is_refused(
    finished: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "other"))
    before = contents(output, "*")
    assert evaluate(world, output, config=world.change(steps=3)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "steps" in error and Results(finished).protocol().hash in error
    assert contents(output, "*") == before


def test_other_weights_under_a_used_label_are_refused(
    finished: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "retrained"))
    other = world.make_run(tmp_path / world.run.name, seed=1)
    assert evaluate(world, output, "--runs", str(other)) == 2
    assert "other weights" in capsys.readouterr().err


def test_an_entry_that_is_not_complete_is_left_out_and_said_so(
    finished: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "partial"))
    path = output / "entries" / world.run.name / "records.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    assert evaluate(world, output, "--stage", "report") == 0
    assert f"{world.run.name}: 5 of {IMAGES} images are scored" in capsys.readouterr().out
    assert [entry["kind"] for entry in timeless(output)["entries"]] == [
        "ceiling",
        "reconstruction",
        "described",
        "floor",
    ]


def test_a_damaged_image_is_named(
    finished: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "damaged"))
    path = sorted((output / "entries" / "prompt-only" / "images").iterdir())[0]
    path.write_bytes(path.read_bytes()[:100])
    assert evaluate(world, output, "--stage", "score") == 2
    assert path.name in capsys.readouterr().err


def test_an_empty_folder_has_nothing_to_report(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(world, tmp_path / "empty", "--stage", "report") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'empty'} holds no results: run `--stage generate` first\n"


def test_a_run_for_another_base_model_is_refused_before_anything_is_written(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    other = tiny_base(tmp_path / "other-base", seed=1)
    assert evaluate(world, output, "--runs", str(world.run), config=world.change(backbone=str(other))) == 2
    assert f"{world.run} was trained on base model" in capsys.readouterr().err
    assert not output.exists()

"""Images that another program made, from the plan to the board, on real components of the smallest size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.requests import noise_key
from evaluate import main
from leaderboard.images import taking
from leaderboard.results.anchors import LABELS
from leaderboard.results.folder import Results
from networks.keyed_noise import keyed_normal
from pocket.tiny.components import SIDE
from tests.leaderboard.conftest import World

IMAGES = 2 * 3 * 2  # subjects x prompts x samples
RUN = "spotdiff"


def evaluate(world: World, output: Path, *more: str, config: Path | None = None) -> int:
    return main(["--config", str(config or world.config), "--output", str(output), *more])


def board_of(output: Path) -> dict:
    return json.loads((output / "leaderboard.json").read_text())


def row_of(output: Path, label: str) -> dict:
    return next(entry for entry in board_of(output)["entries"] if entry["label"] == label)


def scores(output: Path, label: str) -> dict[str, dict]:
    records = Results(output).entry(label).records()
    return {name: {**record.to_json(), "image_sha256": None} for name, record in records.items()}


@pytest.fixture(scope="module")
def drawn(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation of a run."""
    output = tmp_path_factory.mktemp("drawn") / "results"
    assert evaluate(world, output, "--runs", str(world.run)) == 0
    return output


@pytest.fixture
def exported(drawn: Path, tmp_path: Path) -> Path:
    """The images of that run as a folder of its own."""
    return Path(shutil.copytree(drawn / "entries" / RUN / "images", tmp_path / "exported"))


def test_the_plan_is_all_that_another_program_needs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "plan"
    assert evaluate(world, output, "--stage", "plan") == 0
    assert f"plan: {IMAGES} images per entry, listed in {output / 'requests.jsonl'}" in capsys.readouterr().out
    protocol = Results(output).protocol()
    rows = [json.loads(line) for line in (output / "requests.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [request.id for request in protocol.requests]
    for row, request in zip(rows, protocol.requests, strict=True):
        assert row["file"] == f"{request.id}.png" and row["prompt"] == request.prompt
        assert row["spoken"] == request.prompt.replace("<subject>", "person") and row["class"] == "person"
        assert row["negative_prompt"] == "" and row["size"] == [SIDE, SIDE]
        with Image.open(output / row["reference"]) as reference:
            assert reference.size == (SIDE, SIDE)
        noise = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(row["seed"]))
        assert torch.equal(noise, keyed_normal((4, 16, 16), *noise_key(protocol.seed, request.id)))
    assert not (output / "entries").exists() and not (output / ".lock").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_images_that_were_drawn_here_and_brought_back_score_as_they_did(
    world: World, drawn: Path, exported: Path, tmp_path: Path, processes: int
) -> None:
    """Beside the run itself, in a folder of their own name and under a label, in any number of processes."""
    output = Path(shutil.copytree(drawn, tmp_path / "again"))
    both = ["--images", str(exported), f"back={exported}", "--runs", str(world.run)]
    assert evaluate(world, output, *both, "--trainer.devices", str(processes)) == 0
    original = row_of(output, RUN)
    for label in ("exported", "back"):
        assert scores(output, label) == scores(drawn, RUN)
        brought = row_of(output, label)
        for part in ("metrics", "by_class", "by_subject", "presets", "counts"):
            assert brought[part] == original[part]
        for request in Results(output).protocol().requests:
            files = [Results(output).entry(name).image(request.id) for name in (label, RUN)]
            pixels = [np.asarray(Image.open(file)) for file in files]
            assert np.array_equal(*pixels) and files[0].read_bytes() != files[1].read_bytes()
    assert "exported and back are the same images under two labels" in board_of(output)["notes"]
    assert main(["--verify", str(output)]) == 0


def test_what_was_taken_in_is_kept_and_a_changed_folder_is_noticed(
    world: World,
    drawn: Path,
    exported: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same files are hashed again and not looked at again."""
    output = Path(shutil.copytree(drawn, tmp_path / "again"))
    theirs = ["--images", f"theirs={exported}"]
    assert evaluate(world, output, *theirs) == 0
    folder, before = Results(output).entry("theirs"), (output / "leaderboard.json").read_bytes()
    images = sorted((folder.root / "images").iterdir())
    images[0].unlink()
    (folder.root / "images" / ".likeness-0123.part").write_bytes(b"half")
    kept = images[1].stat().st_mtime_ns
    capfd.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(taking, "open_image", None)
        assert evaluate(world, output, *theirs, "--trainer.devices", "2") == 0
    assert f"theirs: 1 images taken in, {IMAGES - 1} were there" in capfd.readouterr().out
    assert sorted((folder.root / "images").iterdir()) == images and images[1].stat().st_mtime_ns == kept
    assert (output / "leaderboard.json").read_bytes() == before
    Image.new("RGB", (SIDE, SIDE), "red").save(exported / images[0].name)
    assert evaluate(world, output, *theirs) == 2
    assert f"holds images of other files than {exported} holds now" in capfd.readouterr().err
    assert main(["--verify", str(output)]) == 1
    assert f"wrong: images of theirs: {exported} is " in capfd.readouterr().out


def test_other_sizes_and_formats_are_brought_to_one_and_noted(
    world: World, drawn: Path, exported: Path, tmp_path: Path
) -> None:
    first, second, third, *_ = sorted(exported.iterdir())
    pixels = np.zeros((2 * SIDE, 3 * SIDE, 3), np.uint8)
    pixels[:, SIDE // 2 : SIDE // 2 + 2 * SIDE] = (255, 0, 0)  # the central square
    Image.fromarray(pixels).save(first)
    Image.open(second).save(second.with_suffix(".jpg"), quality=90)
    second.unlink()
    Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0)).save(third)
    about = {"seconds_per_image": 2.5, "trainable_parameters": 7, "method": "theirs"}
    (exported / "entry.json").write_text(json.dumps(about))
    output = Path(shutil.copytree(drawn, tmp_path / "again"))
    assert evaluate(world, output, "--images", f"theirs={exported}") == 0
    folder, row = Results(output).entry("theirs"), row_of(output, "theirs")
    assert (np.asarray(Image.open(folder.image(first.stem)))[:, 3:-3] == (255, 0, 0)).all()
    assert (np.asarray(Image.open(folder.image(third.stem))) == 255).all(), "transparent shows white"
    assert row["images"] == {"missing": [], "superfluous": 0, "resized": 1, "jpeg": 1}
    assert row["costs"]["seconds_per_image"] == 2.5 and row["costs"]["trainable_parameters"] == 7
    assert row["costs"]["enrol_seconds"] is None and row["manifest"] == about
    notes = " ".join(board_of(output)["notes"])
    assert "1 images of theirs had another size" in notes and "1 images of theirs are JPEG" in notes


def test_a_share_may_be_missing_where_that_is_allowed_and_it_never_flatters(
    world: World, drawn: Path, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A whole group and one image of another are missing: what is there is judged, the rest counts as not found."""
    lost = [path for path in sorted(exported.iterdir()) if ".beach." in path.name][:3]
    for path in lost:
        path.unlink()
    output = Path(shutil.copytree(drawn, tmp_path / "again"))
    arguments = ["--images", f"theirs={exported}", "--allow_missing"]
    assert evaluate(world, output, *arguments, "0.1") == 2
    assert f"lacks 3 of {IMAGES} images" in capfd.readouterr().err
    assert not (output / "entries" / "theirs").exists()
    assert evaluate(world, output, *arguments) == 0
    ours, row = row_of(output, RUN), row_of(output, "theirs")
    assert row["counts"]["missing"] == 3 and row["counts"]["images"] == IMAGES - 3
    assert row["images"]["missing"] == [path.stem for path in lost]
    assert ours["metrics"]["detection_rate"]["value"] == 1.0
    assert row["metrics"]["detection_rate"]["value"] == pytest.approx((IMAGES - 3) / IMAGES)
    records, before = Results(output).entry("theirs").records(), Results(drawn).entry(RUN).records()
    kept = [name for name, record in records.items() if not record.missing]
    for name, value in row["metrics"].items():
        assert value["value"] is None or np.isfinite(value["value"]), name
    found = [before[name].scores["identity_misses_zero"] for name in kept]
    assert row["metrics"]["identity_misses_zero"]["value"] == pytest.approx(sum(found) / IMAGES, abs=1e-6)
    fits = [before[name].scores["clip_t"] for name in kept]
    assert row["metrics"]["clip_t"]["value"] == pytest.approx(np.mean(fits), abs=1e-6)
    assert f"theirs lacks 3 of {IMAGES} images" in " ".join(board_of(output)["notes"])
    assert "Missing images" in (output / "leaderboard.html").read_text()
    assert main(["--verify", str(output)]) == 0
    assert evaluate(world, output, *arguments, "0.25", "--trainer.devices", "2") == 0
    assert "theirs: 0 images scored, 9 were there" in capfd.readouterr().out


def test_all_that_is_wrong_with_folders_is_told_at_once_and_before_anything_is_taken_in(
    world: World, drawn: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = Path(shutil.copytree(exported, tmp_path / "few"))
    lost, cut, *_ = sorted(exported.iterdir())
    (few / lost.name).unlink()
    cut.write_bytes(cut.read_bytes()[:-200])
    output = Path(shutil.copytree(drawn, tmp_path / "again"))
    assert (
        evaluate(
            world, output, "--images", f"cut={exported}", f"few={few}", f"whole={drawn / 'entries' / RUN / 'images'}"
        )
        == 2
    )
    first, second = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"1 files in {exported} cannot be used ({cut.name})" in first
    assert f"{few} lacks 1 of {IMAGES} images ({lost.stem})" in second
    assert {path.name for path in (output / "entries").iterdir()} == {*LABELS, RUN}

"""What is missing is told in one list, before photos are judged; a protocol without a base model; who writes where."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from contracts.lock import folder_lock
from evaluate import main
from leaderboard.results.folder import Results
from pocket.tiny.components import SIDE
from tests.leaderboard.conftest import World

IMAGES = 2 * 3 * 2


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.removeprefix("error: ") for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_everything_that_is_missing_is_told_at_once(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "results"
    wrong = {
        "protocol.prompts": "no/prompts.yaml",
        "protocol.dataset": "no/data",
        "protocol.backbone": "./no/base",
        "protocol.samples": "0",
        "judges.faces": "no/faces",
        "judges.clip": "./no/clip",
        "judges.image_backbone": "facebook/dinov2-base",
        "judges.lpips": "no/lpips.safetensors",
        "trainer.precision": "bf16-true",
    }
    options = [word for name, value in wrong.items() for word in (f"--{name}", value)]
    who = ["--runs", "no/run", str(world.run), "--images", "no/images", f"spotdiff={tmp_path}"]
    arguments = ["--config", str(world.config), "--output", str(output), *options, *who, "--stage", "plan"]
    assert main(arguments) == 2
    lines = errors(capsys)
    words = [
        "protocol.samples is 0",
        "trainer.precision is 'bf16-true', it must be one of auto, 32-true, tf32, 16-mixed, bf16-mixed",
        "no prompts in no/prompts.yaml",
        "protocol.dataset: dataset 'no/data' is neither a folder",
        "protocol.backbone: no model folder at './no/base'",
        "judges.faces: face pack 'no/faces'",
        "judges.clip: no model folder at './no/clip'",
        "judges.image_backbone: model 'facebook/dinov2-base' is not on this machine",
        "judges.lpips: no file no/lpips.safetensors",
        "--runs: there is no folder 'no/run'",
        "--images: no/images cannot be read",
        "--images: label 'spotdiff' is taken",
    ]
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True)), lines
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("precision", ["16-true", "64-true", "nonsense", "transformer-engine"])
def test_a_precision_that_no_method_generates_in_is_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    arguments = ["--config", str(world.config), "--output", str(tmp_path / "x"), "--trainer.precision", precision]
    assert main(arguments) == 2
    assert errors(capsys) == [
        f"trainer.precision is '{precision}', it must be one of auto, 32-true, tf32, 16-mixed, bf16-mixed"
    ]


def test_a_resolution_that_the_base_model_does_not_generate_is_refused_before_photos_are_judged(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    arguments = ["--config", str(world.change(resolution=60)), "--output", str(output)]
    assert main(arguments) == 2
    (line,) = errors(capsys)
    assert line.startswith("protocol.resolution is 60, the base model ") and line.endswith("generates 64 x 64 pixels")
    assert not output.exists(), "the corrected command meets no folder of another protocol"


def test_a_run_that_was_trained_at_another_size_is_noted(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(world.run, tmp_path / "small"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["resolution"] = 32
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = [
        "--config",
        str(world.config),
        "--output",
        str(tmp_path / "results"),
        "--runs",
        str(run),
        str(world.run),
    ]
    assert main([*arguments, "--stage", "plan"]) == 0
    assert f"note: small was trained at 32 pixels, the protocol generates {SIDE}\n" in capsys.readouterr().out


def without_base(world: World, output: Path, *more: str) -> int:
    return main(["--config", str(world.change(backbone=None)), "--output", str(output), *more])


def test_a_protocol_without_a_base_model_ranks_images_alone(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its hash says so. Nothing is generated but the ceiling; a run is refused in one line."""
    output = tmp_path / "results"
    assert without_base(world, output, "--runs", str(world.run)) == 2
    assert errors(capfd) == ["--runs: a run needs its base model, and protocol.backbone is null: name it there"]
    assert without_base(world, output, "--stage", "plan") == 0
    protocol = Results(output).protocol()
    assert protocol.backbone is None and json.loads((output / "protocol.json").read_text())["backbone"] is None
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for request in protocol.requests:
        shutil.copy(Results(output).reference(request.subject), theirs / f"{request.id}.png")
    given = ["--images", str(theirs), f"prompt-only={theirs}"]
    assert without_base(world, output, "--images", str(theirs)) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    assert [entry["label"] for entry in board["entries"]] == ["real-photo", "theirs"]
    assert all(row["metrics"]["identity_recovered"]["value"] is None for row in board["entries"])
    assert any("there is no floor" in note for note in board["notes"])
    capfd.readouterr()
    assert without_base(world, output, *given, f"prompt-only={output / 'references'}") == 2
    (line,) = errors(capfd)
    assert line.startswith("--images: label 'prompt-only' is taken: give it another one")
    assert without_base(world, output, *given) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    assert [entry["label"] for entry in board["entries"]] == ["real-photo", "theirs", "prompt-only"]
    assert board["entries"][1]["metrics"]["identity_recovered"]["value"] == 0.0, "the floor is the same images"
    kinds = {entry.label: entry.kind for entry in Results(output).entries()}
    assert kinds == {"prompt-only": "floor", "real-photo": "ceiling", "theirs": "method"}
    records = Results(output).entry("theirs").records()
    assert len(records) == IMAGES and all(r.scores["identity_to_reference"] > 0.999 for r in records.values())


def test_the_floor_of_a_base_model_is_generated_and_not_given(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(world.config), "--output", str(tmp_path / "x")]
    assert main([*arguments, "--images", f"prompt-only={tmp_path}"]) == 2
    (line,) = errors(capsys)
    assert f"prompt-only is generated by protocol.backbone: leave {tmp_path} out, or set it to null" in line


def test_two_commands_never_write_into_one_folder(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the number of processes, and whichever stage: one line, and the folder is as it was."""
    output = tmp_path / "deep" / "results"
    arguments = ["--config", str(world.config), "--output", str(output), "--stage", "plan"]
    with folder_lock(output):
        for more in (["--trainer.devices", "1"], ["--trainer.devices", "2"]):
            assert main([*arguments, *more]) == 2
            (line,) = errors(capsys)
            assert line.startswith(f"{str(output)!r} is in use by ") and "take another folder" in line
        assert main(["--stage", "report", "--output", str(output)]) == 2
        assert "is in use by" in errors(capsys)[0]
        assert [path.name for path in output.iterdir()] == [".lock"]
    assert not (tmp_path / "deep").exists()
    assert main(arguments) == 0
    assert not (output / ".lock").exists()


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_a_share_is_a_share(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: str) -> None:
    arguments = ["--config", str(world.config), "--output", str(tmp_path / "x"), f"--allow_missing={share}"]
    assert main(arguments) == 2
    assert errors(capsys) == [f"--allow_missing is {float(share):g}, it must be a share from 0 to 1"]

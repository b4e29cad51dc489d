"""A method that is judged by a network it was made with is marked wherever its numbers stand."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from contracts.errors import LikenessError
from contracts.settings import JudgeSettings
from evaluate import main
from leaderboard.plan.checks import own_judges
from leaderboard.results.anchors import ANCHORS
from lightning_modules.run import Run
from tests.leaderboard.conftest import World


def write_run(folder: Path, **data: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"tokens": 2}}, "data": data}))
    return folder


def test_the_same_face_network_is_found_under_any_name(world: World, tmp_path: Path) -> None:
    faces, clip = world.root / "faces", world.root / "clip"
    settings = JudgeSettings(str(faces), str(clip))
    copy = Path(shutil.copytree(faces, tmp_path / "copy"))
    for pack in (faces, copy):
        run = write_run(tmp_path / "run", enrolment={"face_encoder": str(pack)}, source=str(world.root / "dataset"))
        assert own_judges(Run(run), settings) == {"faces": "data.enrolment.face_encoder"}
        run = write_run(tmp_path / "run", features={"face_embedding": {"detector": str(pack), "recogniser": str(pack)}})
        assert own_judges(Run(run), settings) == {"faces": "data.features.face_embedding.recogniser"}
    model = {"model": {"init_args": {"face_encoder": str(copy)}}, "judges": {"clip": str(clip)}}
    (run / "config.yaml").write_text(yaml.safe_dump(model))
    assert own_judges(Run(run), settings) == {"faces": "model.face_encoder"}, "the judges of the training do not count"


def test_the_same_network_is_found_among_other_files(world: World, tmp_path: Path) -> None:
    """Another detector beside the recogniser, another configuration beside the weights, other names for both."""
    faces, clip = world.root / "faces", world.root / "clip"
    pack, encoder = tmp_path / "pack", tmp_path / "encoder"
    pack.mkdir()
    shutil.copy(faces / "recognition.onnx", pack / "w600k.onnx")
    (pack / "detection.onnx").write_bytes((faces / "detection.onnx").read_bytes() + b"\0")
    encoder.mkdir()
    shutil.copy(clip / "model.safetensors", encoder / "clip.safetensors")
    run = write_run(tmp_path / "run", face_encoder=str(pack), image_encoder=str(encoder))
    settings = JudgeSettings(str(faces), str(clip), second_faces=str(faces), lpips=str(encoder / "clip.safetensors"))
    assert own_judges(Run(run), settings) == {
        "faces": "data.face_encoder",
        "second_faces": "data.face_encoder",
        "clip": "data.image_encoder",
        "lpips": "data.image_encoder",
    }


def test_the_same_network_is_found_behind_a_hub_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched before lies in the hub's cache; nothing is fetched for the comparison."""
    clip, cache = world.root / "clip", tmp_path / "hub"
    folder = cache / "models--someone--clip"
    shutil.copytree(clip, folder / "snapshots" / ("c" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    settings = JudgeSettings(str(world.root / "faces"), str(clip))
    for name, found in (("someone/clip", {"clip": "data.image_encoder"}), ("someone/else", {}), ("no/a name", {})):
        assert own_judges(Run(write_run(tmp_path / "run", image_encoder=name)), settings) == found
    run = write_run(tmp_path / "run", image_encoder=str(clip))
    assert own_judges(Run(run), JudgeSettings(settings.faces, "someone/clip")) == {"clip": "data.image_encoder"}


def test_another_network_is_another_network(world: World, tmp_path: Path) -> None:
    """The recogniser differs, the detector beside it does not: that alone says nothing of whose face it is."""
    settings = JudgeSettings(str(world.root / "faces"), str(world.root / "clip"))
    other = Path(shutil.copytree(world.root / "faces", tmp_path / "other"))
    recogniser = other / "recognition.onnx"
    data = bytearray(recogniser.read_bytes())
    data[-1] ^= 1  # of the same size
    recogniser.write_bytes(data)
    run = write_run(tmp_path / "run", face_encoder=str(other), source="pocket10k", image_encoder="someone/clip")
    assert own_judges(Run(run), settings) == {}


def test_finding_faces_is_no_judgement_of_identity(world: World, tmp_path: Path) -> None:
    pack = str(world.root / "faces")
    run = write_run(tmp_path / "run", detector=pack, enrolment={"faces": pack})
    assert own_judges(Run(run), JudgeSettings(pack, "c", second_faces=pack)) == {}


def test_a_damaged_configuration_is_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "config.yaml").write_text("- 1")
    with pytest.raises(LikenessError, match=r"config\.yaml is damaged"):
        own_judges(Run(run), JudgeSettings("f", "c"))


def test_every_form_of_the_table_says_so(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The world's SpotDiff sees photos through the very CLIP that judges."""
    output = tmp_path / "results"
    config = world.change(subjects=1, samples=1)
    assert main(["--config", str(config), "--runs", str(world.run), "--output", str(output)]) == 0
    said = "spotdiff was made with the judge clip itself (its key data.image_encoder)"
    assert said in capsys.readouterr().out
    for name in ("leaderboard.md", "leaderboard.html"):
        assert said in (output / name).read_text()
    assert said.replace("_", "\\_") in (output / "leaderboard.tex").read_text()
    board = json.loads((output / "leaderboard.json").read_text())
    rows = pd.read_csv(output / "leaderboard.csv", index_col="kind")
    assert rows.loc["method", "own_judges"] == "clip: data.image_encoder" and pd.isna(rows.loc["floor", "own_judges"])
    marks = {entry["kind"]: entry["own_judges"] for entry in board["entries"]}
    assert marks == {**{kind: {} for kind in ANCHORS}, "method": {"clip": "data.image_encoder"}}

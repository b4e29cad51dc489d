"""What may differ from run to run: seconds to enrol, batch sizes, versions of packages."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import write_json
from datamodules.features.store import Features
from evaluate import main
from leaderboard.results.entry import Entry
from leaderboard.results.folder import EntryFolder, Results
from leaderboard.results.provenance import enrol_seconds, note_enrolment, note_generation, note_stage, stages_of
from leaderboard.score import scoring
from tests.leaderboard.conftest import World

LABELS = ("described", "prompt-only", "real-photo", "reconstruction", "spotdiff")


def evaluate(world: World, output: Path, *more: str) -> dict:
    """The board of an evaluation, empty where none was asked for."""
    assert main(["--config", str(world.config), "--output", str(output), "--runs", str(world.run), *more]) == 0
    path = output / "leaderboard.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def stages(board: dict, label: str = "spotdiff") -> list[tuple[str, int]]:
    entry = next(entry for entry in board["entries"] if entry["label"] == label)
    return [(facts["stage"], facts["batch_size"]) for facts in entry["stages"]]


@pytest.fixture(scope="module")
def generated(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images without records."""
    output = tmp_path_factory.mktemp("generated") / "results"
    evaluate(world, output, "--stage", "generate")
    return output


def test_scoring_decodes_every_image_once(
    generated: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Path(shutil.copytree(generated, tmp_path / "results"))
    decoded: list[str] = []
    read = scoring.read_image

    def counting(data: bytes, name: str, side: int) -> object:
        decoded.append(name)
        return read(data, name, side)

    monkeypatch.setattr(scoring, "read_image", counting)
    evaluate(world, output, "--stage", "score")
    results = Results(output)
    planned = [str(results.entry(label).image(r.id)) for label in LABELS for r in results.protocol().requests]
    assert sorted(decoded) == sorted(planned)
    decoded.clear()
    evaluate(world, output, "--stage", "score")
    assert decoded == [], "what has a record is not decoded again"


def test_the_board_says_with_which_packages_and_batches_it_was_made(
    generated: Path, world: World, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(generated, tmp_path / "results"))
    board = evaluate(world, output, "--batch_size", "4")
    for entry in board["entries"]:
        assert stages(board, entry["label"]) == [("generate", 5), ("score", 4)]
        for facts in entry["stages"]:
            assert facts["packages"]["torch"] == version("torch")
            assert {"transformers", "insightface", "onnxruntime", "numpy"} <= facts["packages"].keys()
    image = next((output / "entries" / "spotdiff" / "images").iterdir())
    image.unlink()
    again = evaluate(world, output, "--batch_size", "3")
    assert stages(again)[:3] == [("generate", 5), ("score", 4), ("generate", 3)], "both ways, after an interruption"
    assert stages(again, "prompt-only") == [("generate", 5), ("score", 4)], "where nothing was done, nothing is noted"
    page = (output / "leaderboard.html").read_text()
    assert f"batches of 3; torch {version('torch')}" in page


def test_one_entry_is_never_generated_with_two_precisions(
    generated: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(generated, tmp_path / "results"))
    folder = Results(output).entry("spotdiff")
    (facts,) = stages_of(folder)
    assert (facts["precision"], facts["device"]) == ("32-true", "cpu")
    image = next((folder.root / "images").iterdir())
    image.unlink()
    given = ["--config", str(world.config), "--output", str(output), "--runs", str(world.run), "--stage", "generate"]
    assert main([*given, "--trainer.precision", "bf16-mixed"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "images generated with precision 32-true, trainer.precision is bf16-mixed now" in line
    assert not image.exists() and stages_of(folder) == [facts]

    old = {name: facts[name] for name in ("stage", "batch_size", "packages")}  # as earlier versions wrote it
    write_json(folder.root / "stages.json", [old])
    assert main([*given, "--trainer.precision", "bf16-mixed"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "with precision 32-true and spotdiff with bf16-mixed, which share no board: give --trainer.prec" in line
    assert not image.exists()
    for label in LABELS:
        write_json(Results(output).entry(label).root / "stages.json", [old])
    assert main([*given, "--trainer.precision", "bf16-mixed"]) == 0
    assert image.exists()
    assert [facts.get("precision") for facts in stages_of(folder)] == [None, "bf16-mixed"]


def test_a_board_of_entries_in_different_precisions_is_refused(
    generated: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(generated, tmp_path / "results"))
    evaluate(world, output, "--stage", "score")
    folder = Results(output).entry("spotdiff")
    generation, scoring = stages_of(folder)
    assert generation["precision"] == "32-true", "what auto is on a CPU"
    write_json(folder.root / "stages.json", [{**generation, "precision": "tf32"}, scoring])  # a copied entry
    assert main(["--stage", "report", "--output", str(output)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "which share no board" in line and "tf32" in line


def test_another_precision_is_free_where_nothing_was_generated_and_for_photos(tmp_path: Path) -> None:
    folder, method, photos = EntryFolder(Results(tmp_path), "any"), Entry("any", "method"), Entry("any", "ceiling")
    for precision in ("32-true", "bf16-true"):  # the first ran out of memory
        note_generation(folder, method, 4, precision, "cuda", begun=False)
    assert [facts["precision"] for facts in stages_of(folder)] == ["bf16-true"]
    note_generation(folder, method, 8, "bf16-true", "cpu", begun=True)
    with pytest.raises(LikenessError, match=r"go on with --trainer\.precision bf16-true, or remove the folder"):
        note_generation(folder, method, 8, "32-true", "cpu", begun=True)
    note_generation(folder, photos, 8, "32-true", "cpu", begun=True)
    assert [facts["device"] for facts in stages_of(folder)] == ["cuda", "cpu", "cpu"]


def test_seconds_to_enrol_are_measured_past_the_cache(
    generated: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features of all photos lie in the cache by now, and a new subject's would not."""
    encoded: list[tuple[str, int]] = []
    encode = Features._encode

    def counting(self: Features, name: str, batch: list) -> Tensor:
        encoded.append((name, len(batch)))
        return encode(self, name, batch)

    monkeypatch.setattr(Features, "_encode", counting)
    evaluate(world, tmp_path / "results", "--stage", "generate")
    subjects = len(Results(generated).protocol().subjects)
    assert encoded == [("clip", 1)] * (1 + subjects), "once to load the network, then every photo alone"
    entry = next(e for e in Results(tmp_path / "results").entries() if e.kind == "method")
    folder = Results(tmp_path / "results").entry(entry.label)
    assert 0 < enrol_seconds(folder, entry) < 10  # type: ignore[operator]


def test_a_manifest_that_knows_the_seconds_is_believed(tmp_path: Path) -> None:
    folder, tuned = EntryFolder(Results(tmp_path), "tuned"), Entry("tuned", "method", "w", {"enrol_seconds": 60.5})
    note_enrolment(folder, tuned, lambda: pytest.fail("measured all the same"))
    assert enrol_seconds(folder, tuned) == 60.5
    encoder = Entry("encoder", "method", "w", {})
    assert enrol_seconds(folder, encoder) is None
    note_enrolment(folder, encoder, lambda: 0.25)
    note_enrolment(folder, encoder, lambda: pytest.fail("measured twice"))
    assert enrol_seconds(folder, encoder) == 0.25


def test_what_is_noted_twice_is_there_once(tmp_path: Path) -> None:
    folder = EntryFolder(Results(tmp_path), "any")
    assert stages_of(folder) == []
    for batch_size in (16, 16, 8, 16):
        note_stage(folder, "score", batch_size)
    assert [facts["batch_size"] for facts in stages_of(folder)] == [16, 8]

"""Several photos of a subject, through the commands: who reads which, and that held-out photos stay held out."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

import evaluate
import generate
from contracts.errors import LikenessError
from contracts.files import write_json
from contracts.settings import GenerationSettings
from datamodules.index import by_subject, held_out_of, load_photos, references_of
from datamodules.sources import find_shards
from leaderboard.generate.enrolment import SubjectRun
from leaderboard.generate.given_subjects import subject_in_photos
from leaderboard.generate.own_photos import generate_images
from leaderboard.results.folder import Results
from leaderboard.results.image_files import read_provenance
from lightning_modules.run import Run
from metrics.gallery import load_galleries
from pocket.render.dataset import Grid, rows_of
from tests.leaderboard.conftest import World
from tests.leaderboard.test_enrolled_runs import enrol

SUBJECTS = ["s0018", "s0019"]


def evaluated(world: World, output: Path, *more: str) -> int:
    return evaluate.main([f"--config={world.config}", f"--output={output}", *more])


def images_of(results: Path, label: str = "spotdiff") -> dict[str, NDArray[np.uint8]]:
    return {p.stem: np.asarray(Image.open(p)) for p in (results / "entries" / label / "images").glob("*.png")}


def error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture(scope="module")
def boards(world: World, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One evaluation with one reference, and two with three: their mean, and all."""
    root = tmp_path_factory.mktemp("boards")
    three = "--protocol.references=3"
    for name, more in (
        ("one", []),
        ("average", [three, "--stage=generate"]),
        ("all", [three, "--protocol.reference_tokens=all"]),
    ):
        assert evaluated(world, root / name, f"--runs={world.run}", *more) == 0
    return {name: root / name for name in ("one", "average", "all")}


def test_encoders_read_all_references(boards: Mapping[str, Path], world: World) -> None:
    protocols = {name: Results(folder).protocol() for name, folder in boards.items()}
    assert len({protocol.hash for protocol in protocols.values()}) == 3
    assert [protocols["one"].references, protocols["all"].references] == [None, 3]
    assert not {"references", "reference_tokens"} & protocols["one"].to_json().keys(), "as it was with one photo"
    one, average, every = (images_of(folder) for folder in boards.values())
    for request in one:
        assert not any(
            np.array_equal(a, b) for a, b in ((one[request], average[request]), (average[request], every[request]))
        )
    assert {path.name for path in (boards["all"] / "references").iterdir()} == {
        f"{subject}{number}.png" for subject in SUBJECTS for number in ("", ".2", ".3")
    }
    for name, further in (("one", None), ("all", [f"references/s0018.{n}.png" for n in (2, 3)])):
        line = json.loads((boards[name] / "requests.jsonl").read_text().splitlines()[0])
        assert line["reference"] == "references/s0018.png" and line.get("further_references") == further
    assert evaluate.main(["--verify", str(boards["all"])]) == 0
    seen = "Methods see 3 photos of each subject, encoders use all of their tokens."
    assert seen in (boards["all"] / "leaderboard.md").read_text()
    assert "photos of each subject" not in (boards["one"] / "leaderboard.md").read_text()


def test_copying_any_of_them_is_copying(boards: Mapping[str, Path], world: World) -> None:
    """Each further reference given as an image scores as a copy, which it does not where it was not seen."""
    folder = boards["all"].parent / "copies"
    folder.mkdir()
    for request in Results(boards["all"]).protocol().requests:
        (folder / f"{request.id}.png").write_bytes((boards["all"] / f"references/{request.subject}.3.png").read_bytes())
    found = {}
    for name in ("one", "all"):
        more = [
            f"--protocol.references={1 if name == 'one' else 3}",
            f"--protocol.reference_tokens={'average' if name == 'one' else 'all'}",
        ]
        assert evaluated(world, boards[name], f"--images=copies={folder}", *more) == 0
        records = Results(boards[name]).entry("copies").records().values()
        found[name] = np.array([record.scores["clip_i_to_reference"] for record in records])
    assert np.allclose(found["all"], 1.0, atol=0.02) and (found["one"] < found["all"] - 1e-3).all()
    gallery = load_galleries(Results(boards["all"]).galleries, SUBJECTS)["s0018"]
    assert (
        all(len(rows) == 2 for rows in gallery.further.values()) and gallery.further.keys() == gallery.reference.keys()
    )
    assert not load_galleries(Results(boards["one"]).galleries, SUBJECTS)["s0018"].further


def test_generate_reads_what_an_evaluation_reads(boards: Mapping[str, Path], world: World, tmp_path: Path) -> None:
    protocol = yaml.safe_load(world.config.read_text())["protocol"]
    for tokens in ("average", "all"):
        settings = GenerationSettings(samples=2, steps=2, batch_size=5, references=3, reference_tokens=tokens)
        given = [[str(world.run)], [protocol["prompts"]], tmp_path / tokens]
        images = generate_images(*given, subjects=SUBJECTS, dataset=protocol["dataset"], settings=settings)
        expected = images_of(boards[tokens])
        assert all(np.array_equal(np.asarray(Image.open(i.path)), expected[i.request.id]) for i in images)
        about = read_provenance(images[0].path)
        assert len(about["references"]) == 3 and about["reference_tokens"] == tokens


def test_fewer_photos_than_asked_for_are_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(world, tmp_path / "results", "--protocol.references=6") == 2
    said = (
        "subject 's0018' has 5 photos that a method may see, protocol.references asks for 6: add photos, ask for fewer"
    )
    assert said in error(capsys) and not (tmp_path / "results").exists()
    assert evaluated(world, tmp_path / "results", "--protocol.references=0") == 2
    assert "protocol.references is 0, it must be at least 1" in error(capsys)
    photo = tmp_path / "me.png"
    photo.write_bytes(rows_of(3, Grid(20, 3, 3))[0]["image"]["bytes"])
    given = [
        "--run",
        str(world.run),
        "--photo",
        str(photo),
        "--prompts",
        "a <subject>",
        "--output",
        str(tmp_path / "out"),
    ]
    assert generate.main([*given, "--references=4"]) == 2
    assert "has 1 photo that can be used, --references asks for 4: give more photos, or ask for fewer" in error(capsys)
    assert generate.main([*given, "--references=0"]) == 2
    assert "--references is 0, it must be at least 1" in error(capsys)
    assert not (tmp_path / "out").exists()


def test_optimisers_learn_from_all_and_never_from_what_judges_them(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = enrol(
        world,
        tmp_path / "run",
        SUBJECTS,
        model="lightning_modules.TextualInversion",
        data__enrolment__references=3,
    )
    photos = by_subject(load_photos(find_shards(str(world.root / "dataset")), tmp_path / "cache"))
    learnt = Run(run).manifest["photos"]
    assert learnt == {name: [p.sha256 for p in references_of(photos[name], 3)] for name in SUBJECTS}
    assert evaluated(world, tmp_path / "three", f"--runs={run}", "--protocol.references=3", "--stage=plan") == 0
    assert "learnt from" not in capsys.readouterr().out
    assert evaluated(world, tmp_path / "one", f"--runs={run}", "--stage=plan") == 0
    assert "note: run learnt from 3 photos of a subject, protocol.references is 1" in capsys.readouterr().out
    learnt["s0019"].append(held_out_of(photos["s0019"])[1].sha256)
    write_json(Run(run).manifest_file, {**Run(run).manifest, "photos": learnt})
    assert evaluated(world, tmp_path / "wrong", f"--runs={run}", "--protocol.references=3", "--stage=plan") == 2
    assert "was trained on held-out photos of s0019: enrol with the protocol's references" in error(capsys)


def test_photos_of_ones_own(world: World, tmp_path: Path) -> None:
    """An encoder reads two of the three photos in a folder, an optimiser learns from the same two."""
    folder = tmp_path / "anna"
    folder.mkdir()
    for number, row in enumerate(rows_of(3, Grid(20, 3, 3))[:3]):
        (folder / f"{number}.png").write_bytes(row["image"]["bytes"])
    settings = {"samples": 1, "steps": 2, "batch_size": 4}
    made = []
    for references in (None, 2, 3):
        how = GenerationSettings(**settings, references=references)
        (image,) = generate_images(
            [str(world.run)], ["a <subject>"], tmp_path / f"out-{references}", photos=[str(folder)], settings=how
        )
        made.append(np.asarray(Image.open(image.path)))
        assert len(read_provenance(image.path).get("references", ["one"])) == (references or 1)
    assert len({image.tobytes() for image in made}) == 3
    run = Run(enrol(world, tmp_path / "run", SUBJECTS, model="lightning_modules.TextualInversion"))
    subject, base = subject_in_photos(str(folder)), str(world.root / "base")
    two, every = SubjectRun(run, subject, base, None, references=2), SubjectRun(run, subject, base, None)
    assert two.photos == subject.photos[:2] and every.photos == subject.photos and two.key != every.key
    two.enrol("cpu")
    assert two.enrolled.manifest["photos"] == {subject.id: subject.photo_keys()[:2]}
    with pytest.raises(LikenessError, match="has 3 photos that can be used, --references asks for 4"):
        _ = SubjectRun(run, subject, base, None, references=4).photos

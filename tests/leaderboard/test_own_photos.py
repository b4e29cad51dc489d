"""``generate.py`` on a world of the smallest size: what is generated, kept, listed and shown."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

import evaluate
from contracts.errors import LikenessError
from contracts.lock import folder_lock
from contracts.settings import GenerationSettings
from leaderboard.generate.contact_sheet import MAX_ROWS, Block, Row, make_sheet
from leaderboard.generate.own_photos import OwnImage, generate_images
from leaderboard.results.image_files import read_provenance, write_image
from networks.face_analysis import FacePack
from pocket.render.dataset import Grid, rows_of
from tests.leaderboard.conftest import PROMPTS, World
from tests.tools.test_edit_faces import World as Aligning

TEXTS = ["a photo of a <subject>, on a beach", "a pencil sketch of a <subject>"]
FEW = GenerationSettings(samples=2, steps=2, batch_size=5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of one person in ``anna``, one of another in ``ben.png``."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "anna").mkdir()
    grid = Grid(20, 3, 3)
    for number in range(2):
        (folder / "anna" / f"{number}.png").write_bytes(rows_of(3, grid)[number]["image"]["bytes"])
    (folder / "ben.png").write_bytes(rows_of(4, grid)[0]["image"]["bytes"])
    return folder


def pixels(image: OwnImage | Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(image if isinstance(image, Path) else image.path))


def rows_in(output: Path) -> list[Mapping]:
    return [json.loads(line) for line in (output / "images.jsonl").read_text().splitlines()]


def test_images_are_those_of_an_evaluation(world: World, tmp_path: Path) -> None:
    results = tmp_path / "results"
    given = [f"--config={world.config}", f"--runs={world.run}", f"--output={results}", "--stage=generate"]
    assert evaluate.main(given) == 0
    protocol = yaml.safe_load(world.config.read_text())["protocol"]
    images = generate_images(
        [str(world.run)],
        [protocol["prompts"]],
        tmp_path / "out",
        subjects=["s0018", "s0019"],
        dataset=protocol["dataset"],
        settings=FEW,
    )
    assert len(images) == 2 * len(PROMPTS) * 2
    for image in images:
        in_results = results / "entries" / "spotdiff" / "images" / f"{image.request.id}.png"
        assert np.array_equal(pixels(image), pixels(in_results))
    assert len({pixels(image).tobytes() for image in images}) == len(images)


def test_runs_prompts_and_subjects(world: World, photos: Path, tmp_path: Path) -> None:
    other = world.make_run(tmp_path / "other", seed=1)
    output = tmp_path / "out"
    images = generate_images(
        [str(world.run), f"second={other}"],
        TEXTS,
        output,
        photos=[str(photos / "anna"), f"dog={photos / 'ben.png'}"],
        settings=FEW,
    )
    assert len(images) == 2 * 2 * 2 * 2 and len({pixels(image).tobytes() for image in images}) == len(images)
    assert {image.path.parent for image in images} == {output / "images" / "spotdiff", output / "images" / "second"}
    rows = rows_in(output)
    assert {row["file"] for row in rows} == {str(image.path.relative_to(output)) for image in images}
    assert {row["prompt"] for row in rows} == set(TEXTS) and {row["noun"] for row in rows} == {"person", "dog"}
    for row in rows:
        assert row == {"file": row["file"], **read_provenance(output / row["file"])}
        assert row["synthetic"] and len(row["adapter"]) == 64 and row["method"] == "SpotDiff"
        assert "anna" not in json.dumps(row) and "ben" not in json.dumps(row), "names of files are nobody's business"
    sheet = pixels(output / "contact_sheet.png")
    assert sheet.shape == (4 * 18 + 8 * (18 + 166) + 18, 6 + 3 * 166, 3)
    with Image.open(photos / "anna" / "0.png") as photo:
        shown = np.asarray(photo.convert("RGB").resize((160, 160), Image.Resampling.LANCZOS))
    assert np.array_equal(sheet[36 : 36 + 160, 6 : 6 + 160], shown), "the reference comes first"


def test_what_is_there_is_not_generated_again(
    world: World, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, person = tmp_path / "out", [str(photos / "ben.png")]
    images = generate_images([str(world.run)], TEXTS, output, person, settings=FEW)
    first = {image.path: image.path.read_bytes() for image in images}
    images[1].path.unlink()
    capsys.readouterr()
    shutil.copy(photos / "ben.png", tmp_path / "moved.png")
    again = generate_images([str(world.run)], TEXTS, output, [str(tmp_path / "moved.png")], settings=FEW)
    assert again == images and {image.path: image.path.read_bytes() for image in again} == first
    assert "4/4" in capsys.readouterr().err, "the batch of the missing image"
    assert set((output / "images" / "spotdiff").iterdir()) == first.keys()

    generate_images([str(world.run)], TEXTS, output, person, settings=FEW)
    assert "image/s" not in capsys.readouterr().err, "nothing is missing"

    settings = GenerationSettings(samples=3, steps=2, batch_size=5)
    more = generate_images(
        [str(world.run)], [*TEXTS, "an oil painting of a <subject>"], output, person, settings=settings
    )
    assert len(more) == 9 and len(rows_in(output)) == 9
    assert all(path.read_bytes() == data for path, data in first.items()), (
        "more samples and prompts leave them as they are"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 3}, "steps 2, now 3"),
        ({"seed": 1}, "seed 0, now 1"),
        ({"scale": 0.5}, "another settings"),
        ({"arguments": {"scale": 0.5}}, "another settings"),
        ({"negative_prompt": "an oil painting"}, "negative_prompt None, now an oil painting"),
    ],
    ids=str,
)
def test_images_of_two_ways_do_not_mix(world: World, photos: Path, tmp_path: Path, change: dict, words: str) -> None:
    output, person = tmp_path / "out", [str(photos / "ben.png")]
    (image, _) = generate_images([str(world.run)], TEXTS[:1], output, person, settings=FEW)
    before = image.path.read_bytes()
    changed = GenerationSettings(**{**vars(FEW), **change})
    with pytest.raises(LikenessError, match=r"was not generated like this .*: take another --output") as error:
        generate_images([str(world.run)], TEXTS[:1], output, person, settings=changed)
    assert words in str(error.value) and str(image.path) in str(error.value)
    assert image.path.read_bytes() == before
    (other, _) = generate_images([str(world.run)], TEXTS[:1], tmp_path / "other", person, settings=changed)
    assert not np.array_equal(pixels(other), pixels(image))


def test_other_weights_and_files_of_others_are_refused(world: World, photos: Path, tmp_path: Path) -> None:
    output, person = tmp_path / "out", [str(photos / "ben.png")]
    (image, _) = generate_images([str(world.run)], TEXTS[:1], output, person, settings=FEW)
    other = world.make_run(tmp_path / "other", seed=1)
    with pytest.raises(LikenessError, match="another adapter"):
        generate_images([f"spotdiff={other}"], TEXTS[:1], output, person, settings=FEW)
    write_image(image.path, pixels(image), {})
    with pytest.raises(LikenessError, match="it does not say how it was"):
        generate_images([str(world.run)], TEXTS[:1], output, person, settings=FEW)


def test_nothing_is_written_through_a_link_or_beside_another_command(
    world: World, photos: Path, tmp_path: Path
) -> None:
    output, behind, person = tmp_path / "out", tmp_path / "behind", [str(photos / "ben.png")]
    with folder_lock(output), pytest.raises(LikenessError, match="is in use by "):
        generate_images([str(world.run)], TEXTS[:1], output, person, settings=FEW)
    assert not output.exists()
    behind.mkdir()
    output.mkdir()
    (output / "images").symlink_to(behind)
    with pytest.raises(LikenessError, match="images' is a link, and nothing is written behind it"):
        generate_images([str(world.run)], TEXTS[:1], output, person, settings=FEW)
    assert not list(behind.iterdir())


def test_at_scale_zero_images_are_the_base_models(world: World, photos: Path, tmp_path: Path) -> None:
    settings = GenerationSettings(samples=1, steps=2, scale=0.0)
    both = [str(photos / "ben.png"), str(photos / "anna")]
    images = generate_images([str(world.run)], TEXTS[:1], tmp_path / "out", both, settings=settings)
    plain = generate_images(
        [str(world.make_run(tmp_path / "other", seed=1))], TEXTS[:1], tmp_path / "plain", both, settings=settings
    )
    for one, other in zip(images, plain, strict=True):
        assert np.array_equal(pixels(one), pixels(other)), "whatever the weights are"


def test_an_encoder_reads_the_first_photo_that_it_can(
    world: World, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "anna"
    shutil.copytree(photos / "anna", folder)
    (folder / ".hidden.jpg").write_text("no image")
    (folder / "caption.txt").write_text("anna")
    (folder / "0.jpg").write_text("no image")
    images = generate_images([str(world.run)], TEXTS[:1], tmp_path / "out", [str(folder)], settings=FEW)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes[0].startswith(f"note: left out: --photo {folder / '0.jpg'} is no readable")
    assert notes[1:] == [f"note: spotdiff reads one photo of a subject: --photo {folder / '0.png'}"]
    alone = generate_images([str(world.run)], TEXTS[:1], tmp_path / "alone", [str(folder / "0.png")], settings=FEW)
    assert images[0].request.subject != alone[0].request.subject, "other photos, another subject"
    assert read_provenance(images[0].path)["reference"] == read_provenance(alone[0].path)["reference"]


def test_it_is_said_that_a_method_sees_the_central_square(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tall = tmp_path / "tall.png"
    Image.new("RGB", (40, 64)).save(tall)
    generate_images([str(world.run)], TEXTS[:1], tmp_path / "out", [str(tall)], settings=FEW)
    assert f"note: of --photo {tall} (40 x 64) a method sees the central square" in capsys.readouterr().out
    Image.new("RGB", (40, 40)).save(tall)
    generate_images([str(world.run)], TEXTS[:1], tmp_path / "square", [str(tall)], settings=FEW)
    assert "central square" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def aligning(tmp_path_factory: pytest.TempPathFactory) -> Aligning:
    """A run of PIDiff, which needs exactly one face in a photo."""
    return Aligning(tmp_path_factory.mktemp("aligning"))


def test_a_method_that_aligns_faces_passes_over_photos_without_one(
    aligning: Aligning, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos / "anna", tmp_path / "anna")
    Image.new("RGB", (64, 64)).save(tmp_path / "anna" / "-dark.png")
    generate_images([str(aligning.run)], TEXTS, tmp_path / "out", [str(tmp_path / "anna")], settings=FEW)
    assert f"pidiff reads one photo of a subject: --photo {tmp_path / 'anna' / '0.png'}" in capsys.readouterr().out
    dark = str(tmp_path / "anna" / "-dark.png")
    with pytest.raises(LikenessError, match=r"-dark.png shows no face: give a photo with exactly one$"):
        generate_images([str(aligning.run)], TEXTS, tmp_path / "dark", [dark], settings=FEW)
    (tmp_path / "anna" / "0.png").unlink()
    (tmp_path / "anna" / "1.png").unlink()
    Image.new("RGB", (60, 60)).save(tmp_path / "anna" / "darker.png")
    with pytest.raises(LikenessError, match=r"shows no face: .* \(1 more of its photos cannot be used either\)"):
        generate_images([str(aligning.run)], TEXTS, tmp_path / "dark", [str(tmp_path / "anna")], settings=FEW)


def test_several_faces_are_one_line(
    aligning: Aligning, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse = FacePack.analyse
    monkeypatch.setattr(FacePack, "analyse", lambda pack, images: [analyse(pack, images)[0] * 2])
    with pytest.raises(LikenessError, match=r"ben.png shows 2 faces: give a photo with exactly one"):
        generate_images([str(aligning.run)], TEXTS, tmp_path / "out", [str(photos / "ben.png")], settings=FEW)


def test_a_run_without_a_detector_is_one_line_with_the_key(aligning: Aligning, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(aligning.run, tmp_path / "run")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    (tmp_path / "run" / "config.yaml").write_text(
        yaml.safe_dump(config | {"data": {"wplus_encoder": str(aligning.wplus)}})
    )
    with pytest.raises(LikenessError, match=r"ben.png must be found .*: set data.features.wplus.detector"):
        generate_images([str(tmp_path / "run")], TEXTS, tmp_path / "out", [str(photos / "ben.png")], settings=FEW)


def test_a_prompt_of_two_is_refused_where_the_method_takes_one(world: World, photos: Path, tmp_path: Path) -> None:
    both, dataset = [str(photos / "anna"), str(photos / "ben.png")], str(world.root / "dataset")
    for second, subjects in (("subject", []), ("s0018", ["s0018"])):
        prompt = f"a <subject> and a <{second}>"
        with pytest.raises(LikenessError) as error:
            generate_images([str(world.run)], [prompt], tmp_path / "out", both, subjects, dataset, settings=FEW)
        takes_one = f"SpotDiff takes 1 subject an image, {prompt!r} names 2: leave the run or the prompt out"
        assert str(error.value) == f"--run: {world.run}: {takes_one}"
    assert not (tmp_path / "out").exists()


def test_an_unknown_subject_is_one_line(world: World, tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"--subject: .* has no subject s0001; it has s0018, s0019"):
        generate_images(
            [str(world.run)], TEXTS, tmp_path / "out", subjects=["s0018", "s0001"], dataset=str(world.root / "dataset")
        )


def test_a_sheet_shows_a_part_of_very_many_images(photos: Path) -> None:
    file, data = photos / "ben.png", (photos / "ben.png").read_bytes()
    few = make_sheet([Block("ben", "ben", data, [Row("short", [file]), Row("long " * 100, [file] * 3)])])
    assert few.size == (6 + 4 * 166, 3 * 18 + 2 * 166 + 18)
    last = np.asarray(few)[-18:]
    assert last.min() == 255, "all are shown"
    rows = [Row(str(number), [file] * 10) for number in range(MAX_ROWS + 1)]
    many = make_sheet([Block("ben", "ben", data, rows)])
    assert many.size == (6 + 9 * 166, 18 + MAX_ROWS * (18 + 166) + 18)
    assert np.asarray(many)[-18:].min() < 128, "it says how many are not"

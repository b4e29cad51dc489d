"""Style editing on tiny models: what is generated, measured and refused."""

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from contracts.errors import LikenessError
from contracts.files import write_atomically
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from lightning_modules.pidiff import PIDiff
from networks.adapter_file import save_adapter
from networks.face_analysis import FacePack
from networks.sampler import SamplingSettings
from networks.wplus import wplus_fingerprint
from networks.wplus_directions import Direction, write_directions
from pocket.models.paths import FACES_B
from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import render
from pocket.tiny.components import SIDE, tiny_base, tiny_dataset, tiny_faces, tiny_wplus
from tools.edit_faces import __main__ as editing
from tools.edit_faces.editor import Editor, Person, people_of
from tools.edit_faces.edits import generate_codes, parse_series

DIRECTION = Direction("smiling", (4, 8), torch.ones(4, 8))


class World:
    """A run folder of an untrained PIDiff whose identity branch is strong, its encoder, judges and data."""

    def __init__(self, root: Path) -> None:
        self.root, self.base, self.wplus = root, tiny_base(root / "base"), tiny_wplus(root / "wplus")
        self.faces, self.dataset = tiny_faces(root / "faces"), tiny_dataset(root / "data")
        self.run, self.directions = root / "pidiff", root / "directions.safetensors"
        arguments = {"backbone": str(self.base), "code_rows": 10, "code_width": 8}
        torch.manual_seed(0)
        module = PIDiff(**arguments)
        for parameter in module.adapter().parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        model = {"class_path": "lightning_modules.PIDiff", "init_args": arguments}
        data = {"wplus_encoder": str(self.wplus), "detector": str(self.faces)}
        write_atomically(self.run / "config.yaml", yaml.safe_dump({"model": model, "data": data}).encode())
        names = {"method": "PIDiff", "backbone": module.backbone.fingerprint}
        save_adapter(self.run / "adapter.safetensors", module.adapter(), names)
        write_directions(self.directions, [DIRECTION], wplus_fingerprint(str(self.wplus)))

    def arguments(self, output: Path, *more: str) -> list[str]:
        given = ["--run", self.run, "--faces", self.faces, "--dataset", self.dataset, "--output", output]
        given += ["--subjects", "2", "--directions", self.directions, "--steps", "2", "--sampler", "ddim"]
        return [*map(str, given), *more]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("editing"))


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]


def test_a_sweep_writes_strips_records_and_a_table(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    edits = ["--edit", "smiling=-2,2", "mix=middle", "mix=fine", "--samples", "2"]
    assert editing.main(world.arguments(output, *edits)) == 0
    rows = records(output)
    names = ["unedited", "smiling-2", "smiling+2", "mix:middle", "mix:fine"]
    assert [row["edit"] for row in rows] == names * 4
    assert {(row["subject"], row["sample"]) for row in rows} == {(s, k) for s in ("s0018", "s0019") for k in (0, 1)}
    assert all(row["inside"] == row["outside"] == 0 for row in rows if row["edit"] == "unedited")
    assert all(row["inside"] > 0 for row in rows if row["edit"] != "unedited")
    strip = Image.open(output / "strips" / "s0018.00.png")
    assert strip.size == (SIDE * len(names), SIDE) and "Likeness" in strip.text
    table = (output / "editing.md").read_text()
    assert table.strip() == capsys.readouterr().out.strip()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == names


def test_what_is_done_is_not_done_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    given = world.arguments(output, "--edit", "smiling=1")
    assert editing.main(given) == 0
    before = (output / "records.jsonl").read_text()
    lines = before.splitlines(keepends=True)
    (output / "records.jsonl").write_text("".join(lines[:-1]) + lines[-1][:9])  # killed while it wrote the last line
    assert editing.main(given) == 0
    assert [row for row in records(output) if row["subject"] == "s0018"] == [json.loads(x) for x in lines[:2]]
    assert records(output)[-2:] == [json.loads(x) for x in lines[2:]]
    monkeypatch.setattr(Editor, "generate", lambda *_: pytest.fail("generated again"))
    assert editing.main(given) == 0
    assert editing.main(world.arguments(output, "--edit", "smiling=2")) == 2


def test_a_sample_that_was_cut_short_twice_is_done_until_it_is_whole(world: World, tmp_path: Path) -> None:
    output = tmp_path / "out"
    given = world.arguments(output, "--edit", "smiling=1", "--subjects", "1")
    assert editing.main(given) == 0
    first, second = (output / "records.jsonl").read_text().splitlines(keepends=True)
    (output / "records.jsonl").write_text(first * 2)  # killed twice, each time after the first of the two lines
    assert editing.main(given) == 0
    assert (output / "records.jsonl").read_text() == first * 3 + second


def test_what_changes_the_images_is_another_protocol(world: World, tmp_path: Path) -> None:
    """The class noun, the run's settings and the partner's photo too."""
    Image.fromarray(np.full((SIDE, SIDE, 3), 200, np.uint8)).save(tmp_path / "me.png")
    run = Path(shutil.copytree(world.run, tmp_path / "pidiff"))
    given = world.arguments(tmp_path / "out", "--photo", str(tmp_path / "me.png"), "--edit", "smiling=1")
    given += ["--run", str(run)]
    assert editing.main(given) == 0 == editing.main(given)
    assert editing.main([*given, "--noun", "woman"]) == 2
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["scale"] = 0.5
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert editing.main(given) == 2


def test_a_face_that_an_edit_destroys_counts_as_lost() -> None:
    plan = SimpleNamespace(subjects=("a", "b"), edits=("smiling=6",))
    rows = [{"subject": s, "sample": 0, "edit": "unedited", "identity": 0.5, "inside": 0, "outside": 0} for s in "ab"]
    rows += [{**row, "edit": "smiling+6", "identity": None if row["subject"] == "a" else 0.4} for row in rows]
    cells = [
        [cell.strip().split(" ")[0] for cell in line.split("|")[1:4]]
        for line in editing.table(plan, rows).splitlines()[2:]
    ]  # type: ignore[arg-type]
    assert cells == [["unedited", "0.500", "0.000"], ["smiling+6", "0.200", "0.300"]]


def test_a_photo_that_cannot_be_aligned_leaves_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of several people too."""
    code = Editor.code

    def refuse(self: Editor, person: Person) -> torch.Tensor:
        if person.id == "s0019":
            raise LikenessError("the photo of s0019 shows no face")
        return code(self, person)

    monkeypatch.setattr(Editor, "code", refuse)
    assert editing.main(world.arguments(tmp_path / "out", "--edit", "smiling=1")) == 2
    assert not (tmp_path / "out").exists()


def test_a_photo_is_edited_and_judged_against_itself(world: World, tmp_path: Path) -> None:
    rgba = np.full((SIDE, SIDE, 4), 200, np.uint8)
    rgba[:, :20, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "me.png")
    output = tmp_path / "out"
    given = world.arguments(output, "--photo", str(tmp_path / "me.png"), "--with", "s0018", "--edit", "mix=fine")
    assert editing.main(given) == 0
    assert [row["subject"] for row in records(output)] == ["photo", "photo"]


def test_strength_zero_is_the_unedited_image_and_the_noise_stays(world: World) -> None:
    editor = Editor(str(world.run), world.directions, FacePack(world.faces), SamplingSettings("ddim", steps=2))
    person = people_of(str(world.dataset), 1, SIDE, FacePack(world.faces))[0]
    code = editor.code(person)
    series = [parse_series("smiling=0,3")]
    labels, images = editor.generate(person, code, None, series, "a photo of a <subject>", ("k", 0))
    assert labels == ["unedited", "smiling+0", "smiling+3"]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])
    edited = code.clone()
    edited[4:8] += 3.0
    again = generate_codes(editor.module, edited[None], "a photo of a <subject>", "person", ("k", 0))
    assert np.abs(again[0].astype(int) - images[2]).max() <= 1


def test_mixing_takes_the_rows_of_the_level(world: World) -> None:
    a, b = torch.zeros(10, 8), torch.ones(10, 8)
    middle, fine = (parse_series(f"mix={level}").apply(a, b, {})[0] for level in ("middle", "fine"))
    assert middle.sum(1).tolist() == [0.0] * 4 + [8.0] * 6 and fine.sum(1).tolist() == [0.0] * 8 + [8.0] * 2


def test_the_code_is_made_of_the_face_without_its_background(world: World) -> None:
    """The reference comes with its mask, so another background gives the same code."""
    person = people_of(str(world.dataset), 1, SIDE, FacePack(world.faces))[0]
    rgba = np.asarray(Image.open(io.BytesIO(person.photo)))
    assert rgba.shape == (SIDE, SIDE, 4) and 0 < (rgba[..., 3] == 255).mean() < 1
    repainted = rgba.copy()
    repainted[rgba[..., 3] == 0, :3] = (0, 255, 0)
    buffer = io.BytesIO()
    Image.fromarray(repainted).save(buffer, "PNG")
    from datamodules.face_crops import aligned, portrait_from_file

    own, other = (
        aligned(portrait_from_file(data, "x"), 64, FacePack(world.faces), background=False)
        for data in (person.photo, buffer.getvalue())
    )
    changed = np.abs(own.astype(int) - other).max(-1)
    assert (changed > 0).mean() < 0.2, "only the blurred edge may change"
    settings = {"encoder": str(world.wplus), "detector": str(world.faces)}
    both = {"wplus": settings, "wplus_background": settings}
    assert len({feature.fingerprint for feature in make_features(both, both, EncoderContext("", SIDE)).values()}) == 2


def test_the_shipped_protocol_of_edits_can_be_read() -> None:
    plan = editing.read_edits(Path(__file__).parents[2] / "configs" / "prompts" / "pocket_edits.yaml")
    assert plan["prompt"].count("<subject>") == 1 and plan["samples"] >= 1
    assert all(parse_series(text).labels for text in plan["edits"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--edit", "smiling=7"], "strength 7 of direction 'smiling' is not within -6..6"),
        (["--edit", "smiling=much"], "give NAME=STRENGTH"),
        (["--edit", "smiling=nan"], "give NAME=STRENGTH"),
        (["--edit", "age=1"], "no direction 'age'; the file has smiling"),
        (["--edit", "mix=coarse"], "mix takes one of middle, fine"),
        (["--edit", "mix=fine", "--subjects", "1"], "name one with --with"),
        (["--edit", "mix=fine", "--with", "s0001"], "no test subject s0001"),
        (["--edit", "mix=fine", "--with", "s0019"], "--with s0019 is one of the people to edit"),
        (["--edit", "smiling=1", "--guidance", "nan"], "sampling.guidance: must be a finite number"),
        ([], "nothing to edit"),
        (["--edit", "smiling=1", "--prompt", "a photo"], "must hold <subject> once"),
        (["--edit", "smiling=1", "--samples", "0"], "--samples is 0"),
        (["--edit", "smiling=1", "--run", "nowhere"], "'nowhere' is not a run folder"),
        (["--edit", "smiling=1", "--directions", "nowhere"], "no directions at 'nowhere'"),
        (["--edit", "smiling=1", "--photo", "nowhere.png"], "nowhere.png cannot be read"),
        (["--edit", "smiling=1", "--faces", "nowhere"], "face pack 'nowhere' is not a folder"),
        (["--edits", "nowhere.yaml"], "nowhere.yaml cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert editing.main(world.arguments(tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and words in error, error
    assert not (tmp_path / "out").exists()


def test_a_photo_without_a_face_is_one_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(tmp_path / "dark.png")
    given = world.arguments(tmp_path / "out", "--photo", str(tmp_path / "dark.png"), "--edit", "smiling=1")
    assert editing.main(given) == 2
    assert "dark.png shows no face: give a photo with exactly one" in capsys.readouterr().err


@pytest.mark.skipif(not FACES_B.is_dir(), reason="the pocket models are not there")
def test_a_photo_with_two_faces_is_one_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shots = {name: draw_shot(f"{name}/0", style="photo", accessories=False) for name in ("ann", "bob")}
    two = [render(draw_subject(name), shot).image for name, shot in shots.items()]
    Image.fromarray(np.hstack(two)).save(tmp_path / "two.png")
    given = world.arguments(tmp_path / "out", "--photo", str(tmp_path / "two.png"), "--edit", "smiling=1")
    assert editing.main([*given, "--faces", str(FACES_B)]) == 2
    assert "two.png shows 2 faces: give a photo with exactly one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("protocol.json", "[1]", "holds edits of another protocol"),
        ("records.jsonl", '{"sample": 0}\n', "records.jsonl is damaged"),
    ],
)
def test_a_damaged_folder_is_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, words: str
) -> None:
    given = world.arguments(tmp_path / "out", "--edit", "smiling=1", "--subjects", "1")
    assert editing.main(given) == 0
    (tmp_path / "out" / file).write_text(text)
    assert editing.main(given) == 2
    assert words in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert editing.main(world.arguments(tmp_path / "file" / "out", "--edit", "smiling=1")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path / 'file' / 'out'}") and error.endswith(": Not a directory")


@pytest.mark.parametrize("text", ["edits:\n", "edits: 3\n", "edits: smiling=1\n"])
def test_edits_that_are_no_list_are_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "edits.yaml").write_text(text)
    assert editing.main(world.arguments(tmp_path / "out", "--edits", str(tmp_path / "edits.yaml"))) == 2
    assert "edits must be a list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        (Direction("smiling", (4, 8), torch.ones(3, 8)), "has a vector of shape (3, 8) for rows 4:8"),
        (Direction("smiling", (8, 12), torch.ones(4, 8)), "is for rows 8:12, the codes have 10 rows"),
    ],
)
def test_a_direction_with_other_rows_is_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], direction: Direction, words: str
) -> None:
    file = tmp_path / "other.safetensors"
    write_directions(file, [direction], wplus_fingerprint(str(world.wplus)))
    assert editing.main(world.arguments(tmp_path / "out", "--edit", "smiling=1", "--directions", str(file))) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and words in error, error


def test_an_edit_without_directions_says_how_to_give_them(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = world.arguments(tmp_path / "out", "--edit", "smiling=1")
    at = given.index("--directions")
    assert editing.main(given[:at] + given[at + 2 :]) == 2
    assert "'smiling' needs a direction: give a file of them with --directions" in capsys.readouterr().err


def test_directions_of_another_encoder_are_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    write_directions(other, [DIRECTION], "0" * 64)
    given = world.arguments(tmp_path / "out", "--edit", "smiling=1", "--directions", str(other))
    assert editing.main(given) == 2
    assert "find the directions again" in capsys.readouterr().err

"""``generate.py`` with methods that optimise per subject: who is enrolled, how, and how often."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Callback
from PIL import Image
from torch import Tensor

import generate
import train
from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.lock import folder_lock
from contracts.settings import GenerationSettings
from datamodules.features.cache import content_key
from leaderboard.generate import enrolment as enrolment_module
from leaderboard.generate.own_photos import OwnImage, generate_images
from leaderboard.results.image_files import read_provenance
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.sefi_ide import SefiIDE
from lightning_modules.textual_inversion import TextualInversion
from networks.adapter_file import read_adapter
from performance.faults.inject import Signal
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID, TinyWorld
from tests.helpers.batches import PER_SUBJECT_METHODS
from tests.helpers.enrolment import NAMES

METHODS = {method.__name__: method for method in PER_SUBJECT_METHODS}
STEPS = 4
FEW = GenerationSettings(samples=1, steps=2)
PROMPT = "a photo of a <subject>, on a beach"


def arguments(method: type[PerSubjectModule], world: TinyWorld, output: Path, subject: str) -> list[str]:
    """Arguments of ``train.main`` that enrol one subject."""
    return world.enrolment(
        method.__name__,
        output,
        [subject],
        model__learning_rate=1e-2,
        data__enrolment__steps=STEPS,
        trainer__gradient_clip_val=0.05,
    )


@pytest.fixture(scope="module")
def runs(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of a method by its name, which knows the first test subject."""
    folder = tmp_path_factory.mktemp("runs")

    def make(name: str) -> Path:
        if not (folder / name).exists():
            assert train.main(arguments(METHODS[name], tiny_world, folder / name, NAMES[0])) == 0
        return folder / name

    return make


@pytest.fixture
def run(runs: Callable[[str], Path]) -> Path:
    return runs("TextualInversion")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of one person."""
    folder = tmp_path / "anna"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(rows_of(5, GRID)[number]["image"]["bytes"])
    return folder


def enrolled() -> list[Path]:
    return sorted((cache_folder() / "enrolled").glob("*"))


def learnt(adapter: Path) -> dict[str, Tensor]:
    return read_adapter(adapter)[0]


def pixels(image: OwnImage) -> np.ndarray:
    return np.asarray(Image.open(image.path))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_photo_is_enrolled_once_and_then_generated_at_once(
    name: str, runs: Callable[[str], Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, person = runs(name), [str(photos / "0.png")]
    (image,) = generate_images([str(run)], [PROMPT], tmp_path / "out", person, settings=FEW)
    assert f"enrolling {image.request.subject}, {STEPS} steps" in capsys.readouterr().out
    (folder,) = enrolled()
    assert {path.name for path in folder.iterdir()} == {"adapter.safetensors", "config.yaml", "manifest.json"}
    assert json.loads((folder / "manifest.json").read_text())["subjects"] == 1
    assert read_provenance(image.path)["enrolment"] == folder.name
    before = (folder / "adapter.safetensors").stat().st_mtime_ns
    (again,) = generate_images([str(run)], [PROMPT], tmp_path / "again", person, settings=FEW)
    assert "enrolling" not in capsys.readouterr().out
    assert np.array_equal(pixels(again), pixels(image))
    assert enrolled() == [folder] and (folder / "adapter.safetensors").stat().st_mtime_ns == before

    other = GenerationSettings(samples=1, steps=2, enrol_steps=STEPS + 2)
    with pytest.raises(LikenessError, match="another enrolment"):
        generate_images([str(run)], [PROMPT], tmp_path / "out", person, settings=other)
    (longer,) = generate_images([str(run)], [PROMPT], tmp_path / "longer", person, settings=other)
    assert len(enrolled()) == 2 and not np.array_equal(pixels(longer), pixels(image))


def test_a_subject_of_a_data_set_learns_what_training_teaches_it(
    run: Path, tiny_world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, new = NAMES[0], NAMES[1]
    given = {"subjects": [known, new], "dataset": str(tiny_world.dataset), "settings": FEW}
    images = generate_images([str(run)], [PROMPT], tmp_path / "out", **given)  # type: ignore[arg-type]
    assert f"enrolling {new}," in (said := capsys.readouterr().out) and f"enrolling {known}," not in said
    assert ["adapter" in read_provenance(image.path) for image in images] == [True, False]
    # The world's cache may hold this photo as it was encoded beside others, which differs in the last bit.
    alone = f"--data.cache_dir={tmp_path / 'alone'}"
    assert train.main([*arguments(TextualInversion, tiny_world, tmp_path / "run", new), alone]) == 0
    ours, (folder,) = learnt(tmp_path / "run" / "adapter.safetensors"), enrolled()
    found = learnt(folder / "adapter.safetensors")
    assert found.keys() == ours.keys()
    assert all(torch.equal(value, found[name]) for name, value in ours.items())


def test_two_commands_never_enrol_one_subject(run: Path, photos: Path, tmp_path: Path) -> None:
    given = ([str(run)], [PROMPT], tmp_path / "out", [str(photos / "0.png")])
    (image,) = generate_images(*given, settings=FEW)
    (folder,) = enrolled()
    image.path.unlink()
    (folder / "manifest.json").unlink()  # it is not through
    with folder_lock(folder), pytest.raises(LikenessError, match=f"{folder.name}' is in use by "):
        generate_images(*given, settings=FEW)


def test_an_enrolment_that_was_stopped_goes_on(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person, of_every_run = [str(photos / "0.png")], enrolment_module.callbacks_of_every_run

    def with_fault(step: int) -> Callable[..., list[Callback]]:
        return lambda *given: [*of_every_run(*given), Signal("SIGTERM", step)]

    given = [f"--run={run}", f"--photo={person[0]}", f"--prompts={PROMPT}", "--samples=1", "--steps=2"]
    with monkeypatch.context() as patch:
        patch.setattr(enrolment_module, "callbacks_of_every_run", with_fault(2))
        assert generate.main([*given, f"--output={tmp_path / 'out'}"]) == 143
    assert "the same command goes on from here" in capsys.readouterr().err
    assert generate.main([*given, f"--output={tmp_path / 'out'}"]) == 0
    (folder,) = enrolled()
    assert json.loads((folder / "manifest.json").read_text())["steps_of_this_start"] == STEPS - 2
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "other"))
    assert generate.main([*given, f"--output={tmp_path / 'unbroken'}"]) == 0
    (unbroken,) = enrolled()
    assert unbroken.name == folder.name
    ours, found = learnt(unbroken / "adapter.safetensors"), learnt(folder / "adapter.safetensors")
    assert all(torch.equal(value, found[name]) for name, value in ours.items())


def test_several_photos_of_one_subject(run: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "2.jpg").write_text("no image")
    (image,) = generate_images([str(run)], [PROMPT], tmp_path / "out", [str(photos)], settings=FEW)
    (folder,) = enrolled()
    subject = image.request.subject
    files = sorted(content_key((photos / f"{number}.png").read_bytes()) for number in range(2))
    both = "\n".join(f"{subject}:{key[:16]} a photo of a person" for key in files)
    assert json.loads((folder / "manifest.json").read_text())["data"] == content_key(both)
    assert not list((cache_folder() / "enrolled").rglob("*.parquet")), "no photo stays in the cache"


def test_two_photos_in_one_image_are_both_enrolled(
    run: Path, tiny_world: TinyWorld, photos: Path, tmp_path: Path
) -> None:
    both = [str(photos / f"{number}.png") for number in range(2)]
    prompt = "a photo of a <subject> and a <subject>"
    images = generate_images([str(run)], [prompt], tmp_path / "out", both, settings=FEW)
    assert len(images) == 2 and len(enrolled()) == 2 and not np.array_equal(*map(pixels, images))
    told = [read_provenance(image.path) for image in images]
    assert [t["enrolment"] for t in told] == [t["second_enrolment"] for t in reversed(told)]
    assert {t["enrolment"] for t in told} == {folder.name for folder in enrolled()}
    three, others = f"a <subject>, a <{NAMES[0]}> and a <{NAMES[1]}>", NAMES[:2]
    with pytest.raises(LikenessError, match=r"TextualInversion takes 2 subjects an image, .* names 3: leave"):
        generate_images([str(run)], [three], tmp_path / "out", both, others, str(tiny_world.dataset), settings=FEW)


def test_a_photo_without_a_face_is_one_line(
    tiny_world: TinyWorld, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(SefiIDE, tiny_world, tmp_path / "run", NAMES[0])
    faces = [f"--data.enrolment.faces={tiny_world.faces}", "--data.enrolment.face_classes=[person]"]
    assert train.main([*given, *faces]) == 0
    dark = tmp_path / "dark.png"
    Image.new("RGB", (64, 64)).save(dark)
    with pytest.raises(LikenessError, match=r"--photo .*dark.png shows no face, which .* needs for the class 'person'"):
        generate_images([str(tmp_path / "run")], [PROMPT], tmp_path / "out", [str(dark)], settings=FEW)
    assert not enrolled()
    capsys.readouterr()
    dark.rename(photos / "0.dark.png")
    generate_images([str(tmp_path / "run")], [PROMPT], tmp_path / "out", [str(photos)], settings=FEW)
    assert f"note: run leaves out --photo {photos / '0.dark.png'}, which shows no face" in capsys.readouterr().out


def test_what_a_method_cannot_take_is_found_before_anything_is_enrolled(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    person = str(photos / "0.png")
    with pytest.raises(LikenessError, match="stand alone"):
        generate_images([str(run)], ["a photo of a super<subject>"], tmp_path / "out", [person], settings=FEW)
    with pytest.raises(LikenessError, match="the class noun 'old wizard' is"):
        generate_images([str(run)], [PROMPT], tmp_path / "out", [f"old wizard={person}"], settings=FEW)
    assert not enrolled() and not (tmp_path / "out").exists()

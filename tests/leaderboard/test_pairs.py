"""Boards of two subjects in one image: who stands beside whom, who is refused, and what composites of photos score."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

import evaluate
from contracts.errors import LikenessError
from contracts.prompts import plain_prompt
from contracts.protocol import Prompt, Protocol
from contracts.settings import GenerationSettings
from datamodules.schema import features
from datamodules.subjects import load_subjects
from leaderboard.generate.own_photos import generate_images
from leaderboard.generate.photos import side_by_side
from leaderboard.plan.prompts import given_prompts, read_prompts
from leaderboard.results.folder import Results
from leaderboard.results.image_files import read_provenance
from lightning_modules.ip_adapter import IPAdapter
from metrics.gallery import left_out_photo, load_galleries
from networks.adapter_file import save_adapter
from pocket.models.paths import FACES_B
from pocket.render.dataset import Grid, rows_of
from tests.helpers.loras import map_line, write_lora, write_map
from tests.leaderboard.conftest import World
from tests.leaderboard.test_enrolled_runs import enrol
from tests.leaderboard.test_protocol import make_protocol
from tests.leaderboard.test_several_references import error

PROMPTS = [
    {"id": "two-beach", "class": "scene", "text": "a photo of a <subject> and a <subject>, on a beach"},
    {"id": "two-sketch", "class": "style", "text": "a pencil sketch of a <subject> and a <subject>"},
]
PEOPLE = ("s0036", "s0037", "s0038")
SIDE = 64
COLUMNS = ("count_accuracy", "pair_identity", "pair_confusion")


@pytest.fixture(scope="module")
def config(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, of whose photos the shipped judge recognises every face."""
    root = tmp_path_factory.mktemp("pairs")
    rows = [row for number in (36, 37, 38) for row in rows_of(number, Grid(40, 3, 4))]
    (root / "dataset").mkdir()
    Dataset.from_list(rows, features=features()).to_parquet(root / "dataset" / "test.parquet")
    (root / "prompts.yaml").write_text(yaml.safe_dump({"prompts": PROMPTS}))
    data = yaml.safe_load(world.config.read_text())
    data["protocol"] |= {"prompts": str(root / "prompts.yaml"), "dataset": str(root / "dataset"), "subjects": None}
    data["judges"] |= {"faces": str(FACES_B), "det_size": [128]}
    path = root / "evaluation.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def runs(world: World, config: Path) -> list[str]:
    """A method of identity tokens and one of token vectors."""
    arguments = {"backbone": str(world.root / "base"), "image_width": 16}
    folder = config.parent / "ip_adapter"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = IPAdapter(**arguments)
    save_adapter(folder / "adapter.safetensors", module.adapter(), about(module))
    model = {"class_path": "lightning_modules.IPAdapter", "init_args": arguments}
    settings = {"model": model, "data": {"features": {"clip_embeds": {"encoder": str(world.root / "clip")}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "manifest.json").write_text(json.dumps({"trainable_parameters": 123}))
    source = {"data__source": config.parent / "dataset"}
    vectors = enrol(
        world, config.parent / "inversion", list(PEOPLE), model="lightning_modules.TextualInversion", **source
    )
    return [str(folder), str(vectors)]


def about(module: IPAdapter) -> dict[str, str]:
    return {"method": type(module).__name__, "backbone": module.backbone.fingerprint}


def evaluated(config: Path, output: Path, *more: str) -> int:
    return evaluate.main([f"--config={config}", f"--output={output}", *more])


@pytest.fixture(scope="module")
def board(config: Path, runs: list[str]) -> Results:
    """Everybody's images, with those of five folders that are put together from held-out photos."""
    results = Results(config.parent / "results")
    assert evaluated(config, results.root, "--stage=plan") == 0
    photos = {s.id: s.held_out[1] for s in load_subjects(str(config.parent / "dataset"), None, SIDE // 2)}
    whole = {s.id: s.held_out[1] for s in load_subjects(str(config.parent / "dataset"), None, SIDE)}
    for request in results.protocol().requests:
        own, other = photos[request.subject], photos[request.beside]
        shown = {
            "composite": between_bars(own, other),
            "swapped": between_bars(other, own),
            "twins": between_bars(own, own),
            "alone": whole[request.subject],
            "grey": np.full((SIDE, SIDE, 3), 128, np.uint8),
        }
        for label, image in shown.items():
            (config.parent / label).mkdir(exist_ok=True)
            Image.fromarray(image).save(config.parent / label / f"{request.id}.png")
    folders = [str(config.parent / label) for label in shown]
    assert evaluated(config, results.root, "--runs", *runs, "--images", *folders) == 0
    return results


def between_bars(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[SIDE // 4 : -SIDE // 4] = np.concatenate([left, right], axis=1)
    return image


def rows_by_label(results: Results) -> Mapping[str, Mapping[str, float]]:
    entries = json.loads((results.root / "leaderboard.json").read_text())["entries"]
    return {e["label"]: {name: found["value"] for name, found in e["metrics"].items()} for e in entries}


def pairs_of(protocol: Protocol) -> list[tuple[str, str]]:
    return [(r.subject, str(r.beside)) for r in protocol.requests]


def test_everybody_stands_beside_others_as_often_first_as_second() -> None:
    prompts = tuple(Prompt(f"p{i}", "scene", "a <subject> and a <subject>") for i in range(4))
    protocol = make_protocol(subjects=dict.fromkeys("abcde", "person"), prompts=prompts)
    pairs = pairs_of(protocol)
    assert len(pairs) == 5 * 4 * 2 and all(own != other for own, other in pairs)
    assert Counter(own for own, _ in pairs) == Counter(other for _, other in pairs) == dict.fromkeys("abcde", 8)
    assert len(set(pairs)) == 5 * 4, "everybody meets everybody"
    first = protocol.requests[0]
    assert (first.id, first.prompt, first.beside) == ("a.p0.00", "a <subject> and a <b>", "b")
    assert plain_prompt(first.prompt, "a", {"a": "man", "b": "woman"}) == "a man and a woman"
    few = replace(protocol, limit=6)
    assert set(few.requests) <= set(protocol.requests), "a quick look shows the same pairs"
    assert Protocol.from_json(protocol.to_json()).requests == protocol.requests


def test_prompts_of_two_are_for_the_class_nouns_of_both() -> None:
    people = {"a": "man", "b": "dog", "c": "man", "d": "man"}
    prompt = Prompt("p", "scene", "a <subject> and a <subject>", nouns=("man",))
    assert set(pairs_of(make_protocol(subjects=people, prompts=(prompt,)))) == {("a", "c"), ("c", "d"), ("d", "a")}
    with pytest.raises(LikenessError, match="prompt p is of two subjects and for 1 of"):
        make_protocol(subjects={"a": "man", "b": "dog"}, prompts=(prompt,))


def test_boards_of_one_subject_are_what_they_were() -> None:
    protocol = make_protocol()
    assert not protocol.of_pairs and {r.beside for r in protocol.requests} == {None}
    assert protocol.hash == "ff2c19ec8ea33035" and not {"beside", "of_two", "of_pairs"} & protocol.to_json().keys()


@pytest.mark.parametrize("name", ["pocket", "people"])
def test_the_shipped_sets_name_two(name: str) -> None:
    prompts = read_prompts(f"configs/prompts/{name}_pairs.yaml", of_two=True)
    assert all(prompt.of_two for prompt in prompts) and make_protocol(prompts=prompts).of_pairs
    assert given_prompts([f"configs/prompts/{name}_pairs.yaml"]) == prompts


def test_a_set_is_of_one_subject_or_of_two(world: World, tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump({"prompts": [*PROMPTS, {"id": "one", "class": "mix", "text": "a <subject>"}]}))
    with pytest.raises(LikenessError, match="two-beach is of two subjects and others are of one: make a set of each"):
        read_prompts(str(path), of_two=True)
    path.write_text(yaml.safe_dump({"prompts": [PROMPTS[0] | {"text": "<subject>, <subject> and <subject>"}]}))
    with pytest.raises(LikenessError, match="must hold <subject> once, or twice for two subjects"):
        read_prompts(str(path), of_two=True)


def test_composites_of_photos_score_high_and_everything_else_as_it_is(board: Results) -> None:
    rows = rows_by_label(board)
    ceiling = rows["real-photo"]
    assert ceiling["pair_recovered"] == 1.0 and (ceiling["count_accuracy"], ceiling["pair_confusion"]) == (1.0, 0.0)
    assert ceiling["pair_identity"] > 0.6
    for label in ("composite", "swapped"):
        found = [rows[label][name] for name in COLUMNS]
        assert found == [1.0, pytest.approx(ceiling["pair_identity"], abs=0.12), 0.0], "it does not matter who is where"
    twins, alone = ([rows[label][name] for name in COLUMNS] for label in ("twins", "alone"))
    assert twins[0] == 1.0 and twins[2] == 0.5 and alone[0] == 0.0 and alone[2] == 0.5
    for half in (twins, alone):
        assert 0.25 < half[1] < 0.6 < ceiling["pair_identity"]
    assert [rows["grey"][name] for name in COLUMNS] == [0.0, 0.0, 1.0]
    assert not {"identity_misses_zero", "copy_paste", "kid", "retrieval_top1"} & ceiling.keys(), (
        "they are of one subject"
    )
    assert {"prompt_kept", "clip_t", "diversity"} <= ceiling.keys()


def test_the_ceiling_is_two_held_out_photos_side_by_side(board: Results, config: Path) -> None:
    protocol = board.protocol()
    galleries = load_galleries(board.galleries, PEOPLE)
    held_out = {s.id: s.held_out for s in load_subjects(str(config.parent / "dataset"), None, SIDE // 2)}
    request = protocol.requests[3]
    chosen = [left_out_photo(protocol, galleries, request, name) for name in (request.subject, request.beside)]
    image = np.asarray(Image.open(board.entry("real-photo").image(request.id)))
    left, right = (held_out[s][photo] for s, photo in zip((request.subject, request.beside), chosen, strict=True))
    np.testing.assert_array_equal(image[SIDE // 4 : -SIDE // 4], np.concatenate([left, right], axis=1))
    assert (image[: SIDE // 4] == image[SIDE // 4]).all() and (image[-SIDE // 4 :] == image[-SIDE // 4 - 1]).all()
    told = json.loads(Image.open(board.entry("real-photo").image(request.id)).text["Likeness"])
    assert [told[key] for key in ("subject", "photo", "second", "second_photo")] == [
        request.subject,
        chosen[0],
        request.beside,
        chosen[1],
    ]
    assert np.array_equal(side_by_side([left], SIDE // 2), left), "a photo alone is as it is"
    assert side_by_side([left, right], SIDE + 3).shape == (SIDE + 3, SIDE + 3, 3)


def test_another_program_is_told_of_both(board: Results) -> None:
    row, request = json.loads((board.root / "requests.jsonl").read_text().splitlines()[0]), board.protocol().requests[0]
    assert row["prompt"] == f"a photo of a <subject> and a <{request.beside}>, on a beach"
    assert row["spoken"] == "a photo of a person and a person, on a beach"
    assert (row["second_subject"], row["second_class"]) == (request.beside, "person")
    assert (board.root / row["second_reference"]).is_file()


def test_images_follow_from_the_request_alone(board: Results, config: Path, runs: list[str], tmp_path: Path) -> None:
    """Two processes generate, score and report what one did; other batches give the same images up to rounding."""
    again = Results(tmp_path / "two")
    assert evaluated(config, again.root, "--runs", *runs, "--trainer.devices=2") == 0
    for label in ("ip_adapter", "inversion", "real-photo", "reconstruction"):
        assert again.entry(label).records() == board.entry(label).records(), label
    alone = Results(tmp_path / "alone")
    assert evaluated(config, alone.root, "--runs", *runs, "--batch_size=1", "--limit=3", "--stage=generate") == 0
    for label in ("ip_adapter", "inversion"):
        for request in alone.protocol().requests:
            images = [np.asarray(Image.open(r.entry(label).image(request.id))).astype(int) for r in (board, alone)]
            assert np.abs(images[0] - images[1]).max() <= 1
    assert evaluate.main(["--verify", str(board.root)]) == 0


def test_generate_shows_the_same_pairs(board: Results, config: Path, runs: list[str], tmp_path: Path) -> None:
    """Given as two subjects, or the second one by its name, beside an image of one subject."""
    few = GenerationSettings(samples=2, steps=2, batch_size=5)
    own, other, third = PEOPLE

    def generated(prompts: Path, folder: str, *subjects: str) -> dict[tuple[str, str], Path]:
        images = generate_images(
            runs, [str(prompts)], tmp_path / folder, [], subjects, str(config.parent / "dataset"), few
        )
        return {(image.run, image.request.id): image.path for image in images}

    def named(second: str) -> Path:
        path = tmp_path / f"{second}.yaml"
        texts = {"two-beach": f"a photo of a <subject> and a <{second}>, on a beach", "one": "a <subject>"}
        sets = [{"id": name, "class": "scene", "text": text} for name, text in texts.items()]
        path.write_text(yaml.safe_dump({"prompts": sets}))
        return path

    two = generated(config.parent / "prompts.yaml", "two", own, other)
    assert len(two) == 2 * 2 * 2 * 2
    beside_other = generated(named(other), "named", own, other)
    assert len(beside_other) == 2 * (2 + 2 * 2), "nobody stands beside themself"
    same = [r for r in board.protocol().requests if {r.subject, r.beside} == {own, other}]
    assert [(r.subject, r.prompt_id) for r in same[::2]] == [(own, "two-beach"), (other, "two-sketch")]
    for label in ("ip_adapter", "inversion"):
        for request in same:
            expected = np.asarray(Image.open(board.entry(label).image(request.id))).astype(int)
            for found in (two, beside_other) if request.prompt_id == "two-beach" else (two,):
                assert np.abs(np.asarray(Image.open(found[label, request.id])) - expected).max() <= 1
    key = f"{own}.two-beach.00"
    beside_third = generated(named(third), "third", own, third)
    for label in ("ip_adapter", "inversion"):
        first, second = (np.asarray(Image.open(found[label, key])) for found in (beside_other, beside_third))
        assert (first != second).any(), "the second subject decides the image too"
    told = read_provenance(beside_other["ip_adapter", key])
    assert (told["second_subject"], told["second_noun"]) == (other, "person")
    assert told["second_reference"] != told["reference"] == read_provenance(two["ip_adapter", key])["reference"]
    assert "second_subject" not in read_provenance(beside_other["ip_adapter", f"{own}.one.00"])
    with pytest.raises(LikenessError, match="shows two subjects and is for 3 of those given: give two"):
        generated(config.parent / "prompts.yaml", "three", *PEOPLE)


def test_pages_and_tables_say_that_images_are_of_two(board: Results) -> None:
    table = (board.root / "leaderboard.md").read_text()
    assert "Every image is of two subjects." in table and "Confusion of the pair" in table
    page = (board.root / "leaderboard.html").read_text()
    assert "Identity of pairs" in page and "Pair recovered" in page


def test_a_method_of_one_subject_is_refused_and_named(
    world: World, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert evaluated(config, output, f"--runs={world.run}") == 2
    said = f"{world.run}: SpotDiff takes one subject an image, those of {config.parent / 'prompts.yaml'} show two"
    assert error(capsys) == f"error: --runs: {said}: leave it out"
    folder = tmp_path / "loras"
    for number, subject in enumerate(PEOPLE):
        write_lora(folder / subject, world.root / "base", "peft", number)
    write_map(folder, *(map_line(subject, subject) for subject in PEOPLE))
    assert evaluated(config, output, f"--lora={folder}") == 2
    assert "a LoRA takes one subject an image, protocol.prompts are of two: leave it out" in error(capsys)
    assert evaluated(config, output, "--protocol.faceless=[person]") == 2
    assert "are of two subjects, who are told apart by their faces: s0036, s0037, s0038 have none" in error(capsys)
    assert evaluated(config, output, "--subjects", "s0036") == 2
    assert "two-beach is of two subjects and for 1 of protocol.subjects: take more" in error(capsys)
    assert not output.exists()

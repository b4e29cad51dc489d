"""Runs that hold vectors per subject, through the commands."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import evaluate
import train
from contracts.files import cache_folder
from contracts.settings import EvaluationSettings
from datamodules.index import load_photos
from datamodules.sources import find_shards
from leaderboard.plan.plan import planned_cards
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from lightning_modules.sefi_ide import SefiIDE
from networks.stage_tokens import TokenEmitter
from pocket.tiny.components import SIDE, TEXT_LENGTH, TEXT_WIDTH
from pocket.tiny.world import PER_SUBJECT
from tests.helpers.batches import PER_SUBJECT_METHODS
from tests.helpers.enrolment import STEPS
from tests.leaderboard.conftest import PROMPTS, World


@pytest.fixture(scope="module")
def subjects(world: World) -> list[str]:
    """The test subjects of the world's dataset."""
    return sorted({p.subject_id for p in load_photos(find_shards(str(world.root / "dataset")), cache_folder())})


def enrol(world: World, folder: Path, subjects: list[str], **changes: object) -> Path:
    arguments = {
        "output": folder,
        "model": "lightning_modules.SefiIDE",
        "model.backbone": world.root / "base",
        **({} if "model" in changes else {"model.attention_side": 8}),
        "data.source": world.root / "dataset",
        "data.backbone": world.root / "base",
        "data.resolution": SIDE,
        "data.features": "{}",
        "data.subjects": f"[{','.join(subjects)}]",
        "data.enrolment.steps": STEPS,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.num_sanity_val_steps": 0,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    assert train.main([f"--{key}={value}" for key, value in arguments.items()]) == 0
    return folder


@pytest.mark.parametrize("method", PER_SUBJECT_METHODS, ids=lambda method: method.__name__)
def test_a_run_is_evaluated_like_any_other(
    method: type[PerSubjectModule], world: World, subjects: list[str], tmp_path: Path
) -> None:
    settings = {"model": f"lightning_modules.{method.__name__}", **PER_SUBJECT.get(method.__name__, {})}
    run = enrol(world, tmp_path / "enrolled", subjects, **settings)
    output = tmp_path / "results"
    assert evaluate.main([f"--config={world.config}", f"--runs={run}", f"--output={output}"]) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    (row,) = [entry for entry in board["entries"] if entry["label"] == "enrolled"]
    assert row["kind"] == "method" and row["metrics"]["clip_t"]["n"] == len(subjects)
    assert row["costs"]["trainable_parameters"] == sum(v[0].numel() for v in Run(run).load().subjects.values.values())
    assert row["costs"]["enrol_seconds"] is not None


def test_a_module_that_emits_the_vectors_counts_with_all_of_its_weights(
    world: World, subjects: list[str], tmp_path: Path
) -> None:
    manifest = json.loads((enrol(world, tmp_path / "sefi", subjects) / "manifest.json").read_text())
    with torch.device("meta"):
        emitter = TokenEmitter(TEXT_WIDTH, 10)
    assert manifest["trainable_parameters"] == sum(p.numel() for p in emitter.parameters())


def test_two_people_in_a_prompt_are_generated_for_whoever_is_not_named(
    world: World, subjects: list[str], tmp_path: Path
) -> None:
    """Every entry leaves out the same requests, so all of them are complete and compared on the same images."""
    run, output = enrol(world, tmp_path / "sefi", subjects), tmp_path / "results"
    first, second = subjects
    prompts = tmp_path / "prompts.yaml"
    two = {"id": "two", "class": "mix", "text": f"a photo of a <{second}> and a <subject>"}
    prompts.write_text(yaml.safe_dump({"prompts": [*PROMPTS, two]}))
    config = world.change(prompts=str(prompts))
    command = [f"--config={config}", f"--output={output}"]
    assert evaluate.main([*command, f"--runs={run}"]) == 0
    board = json.loads((output / "leaderboard.json").read_text())
    images = len(subjects) * (len(PROMPTS) + 1) * 2 - 2
    assert {row["label"]: row["counts"]["images"] for row in board["entries"]} == dict.fromkeys(
        ("real-photo", "reconstruction", "sefi", "described", "prompt-only"), images
    )
    for row in board["entries"]:
        lines = (output / "entries" / row["label"] / "records.jsonl").read_text().splitlines()
        drawn_for = {r["subject"] for r in map(json.loads, lines) if r["prompt_id"] == "two"}
        assert drawn_for == {first}
        assert row["by_class"]["mix"]["clip_t"]["n"] == 1
    size = f"2 subjects x 4 prompts x 2 samples - 2 with the request's own subject twice = {images} images per entry"
    assert size in (output / "leaderboard.md").read_text()
    assert evaluate.main([f"--verify={output}"]) == 0
    cards = {card.name: card.version for card in planned_cards(settings_of(config))}
    assert cards.items() >= board["protocol"]["metrics"].items(), "the cards of the plan count the same images"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a photo of a super<subject>", "<subject> must stand alone, not inside of another word"),
        ("photo " * (TEXT_LENGTH - 5) + "<subject>", f"reaches to token {TEXT_LENGTH - 1}, behind the"),
    ],
    ids=["glued", "too long for four tokens"],
)
def test_a_prompt_that_a_run_cannot_place_stops_the_evaluation_before_it_begins(
    world: World, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    run, output = enrol(world, tmp_path / "sefi", subjects, model__tokens_per_subject=4), tmp_path / "results"
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(yaml.safe_dump({"prompts": [*PROMPTS, {"id": "odd", "class": "mix", "text": text}]}))
    command = [f"--config={world.change(prompts=str(prompts))}", f"--runs={run}", f"--output={output}"]
    assert evaluate.main(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: --runs: {run} cannot generate all of {prompts}: ") and words in line
    assert not output.exists()


def settings_of(config: Path) -> EvaluationSettings:
    given = evaluate.make_parser()
    found = given.instantiate(given.parse_args([f"--config={config}"]))
    return EvaluationSettings(found.protocol, found.judges)


def test_a_subject_that_was_not_enrolled_stops_the_evaluation_before_it_begins(
    world: World, subjects: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = enrol(world, tmp_path / "sefi", subjects[:1])
    output = tmp_path / "results"
    assert evaluate.main([f"--config={world.config}", f"--runs={run}", f"--output={output}"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"not enrolled in this run: {subjects[1]}" in line
    named = json.dumps(subjects, separators=(",", ":"))
    assert f"train.py --config {run}/config.yaml --output NEW --data.subjects '{named}'" in line
    assert not output.exists()
    command = [f"--config={run}/config.yaml", f"--output={tmp_path / 'new'}", f"--data.subjects={named}"]
    assert train.main(command) == 0, "the command that the line gives"
    assert SefiIDE.__name__ in (tmp_path / "new" / "config.yaml").read_text()

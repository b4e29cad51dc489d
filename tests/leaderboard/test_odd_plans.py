"""Prompts and photos that a plan must refuse, or can use although they look odd: through the command."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from datasets import Dataset

from contracts.files import cache_folder
from datamodules.index import by_subject, load_photos, reference_of
from datamodules.schema import features
from datamodules.sources import find_shards
from evaluate import main
from leaderboard.results.anchors import LABELS
from pocket.render.dataset import Grid, rows_of
from pocket.tiny.components import TEXT_LENGTH
from tests.leaderboard.conftest import World

VERY = "photo " * 500  # a single token each


def evaluate(world: World, output: Path, prompts: list[dict], *more: str) -> int:
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({"prompts": prompts}, allow_unicode=True))
    config = world.change(prompts=str(file), subjects=1, samples=1)
    return main(["--config", str(config), "--output", str(output), *more])


def test_odd_prompts_are_generated_scored_and_counted(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [
        {"id": "long", "class": "mix", "text": f"a <subject> {VERY}far away"},
        {"id": "bare", "class": "action", "text": "<subject>"},
        {"id": "rtl", "class": "scene", "text": '\u202eשלום <subject> ../../etc "q" </script> 🙂'},
    ]
    output = tmp_path / "results"
    assert evaluate(world, output, prompts, "--runs", str(world.run)) == 0
    said = capsys.readouterr()
    assert "note: 2 of 3 prompts are longer than the CLIP judge reads and are cut\n" in said.out
    assert "longer than the specified maximum" not in said.err
    board = json.loads((output / "leaderboard.json").read_text())
    assert {e["label"]: e["counts"]["prompts_cut"] for e in board["entries"]} == dict.fromkeys(
        {*LABELS, world.run.name}, 2
    )
    assert all(entry["counts"]["images"] == 3 for entry in board["entries"])
    lines = (output / "entries" / "prompt-only" / "records.jsonl").read_text().splitlines()
    cut = {record["prompt_id"]: record["details"]["tokens_cut"] for record in map(json.loads, lines)}
    assert cut["long"] > 400 and cut["bare"] == 0 < cut["rtl"]
    assert "</script> 🙂" not in (output / "leaderboard.html").read_text()
    assert main(["--verify", str(output)]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{VERY}<subject>", f"<subject> of prompt p is token 501, behind the {TEXT_LENGTH - 2} that the base model"),
        ("photo " * (TEXT_LENGTH - 2) + "<subject>", f"is token {TEXT_LENGTH - 1}, behind the {TEXT_LENGTH - 2}"),
        ("", "the text of p must hold <subject> once"),
        (
            "a <subject> and a <s0018>",
            "prompt p names all of protocol.subjects (s0018) and is generated for none of them",
        ),
        ("a <subject> with <foo>", "'a <subject> with <foo>': <foo> names no subject; known: s0018, subject"),
    ],
    ids=["far behind", "one behind", "empty", "generated for nobody", "unknown placeholder"],
)
def test_a_prompt_that_loses_a_subject_stops_the_plan(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    output = tmp_path / "results"
    assert evaluate(world, output, [{"id": "p", "class": "mix", "text": text}], "--runs", str(world.run)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and words in line and len(line) < 400
    assert not output.exists()


def test_a_subject_that_is_the_last_word_read_is_kept(world: World, tmp_path: Path) -> None:
    text = "photo " * (TEXT_LENGTH - 3) + "<subject>"
    prompts = [{"id": "p", "class": "mix", "text": text}]
    assert evaluate(world, tmp_path / "results", prompts, "--stage", "generate") == 0


def test_a_reference_without_a_face_stops_the_plan(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(18, Grid(20, 3, 3))
    folder = tmp_path / "dataset"
    folder.mkdir()
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    photos = load_photos(find_shards(str(folder)), cache_folder())
    (group,) = by_subject(photos).values()
    reference = [row["sha256"] for row in rows].index(reference_of(group).sha256)
    dark = cv2.imencode(".png", np.full((64, 64, 3), 5, np.uint8))[1].tobytes()
    known = {"image": {"bytes": dark, "path": None}, "sha256": hashlib.sha256(dark).hexdigest()}
    rows[reference] = {**rows[reference], **known}
    Dataset.from_list(rows, features=features()).to_parquet(folder / "test.parquet")
    output = tmp_path / "results"
    config = world.change(dataset=str(folder), subjects=1)
    assert main(["--config", str(config), "--output", str(output), "--runs", str(world.run)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "error: the reference photo of subject" in line and "shows no face: leave the subject out" in line
    assert not output.exists()

"""Rows that are no method: what they show, that they mark and move nothing, and what a board says where it has not one
of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from contracts.prompts import spoken
from datamodules.schema import features
from datamodules.subjects import load_subjects
from evaluate import main
from leaderboard.report.tables.latex import to_latex
from leaderboard.report.tables.significance import mark
from leaderboard.results.anchors import ANCHORS, KINDS
from leaderboard.results.folder import Results
from metrics.gallery import left_out_photo, load_galleries
from networks.backbone import load_backbone
from pocket.render.captions import description
from pocket.render.dataset import Grid, rows_of
from pocket.render.factors import draw_subject
from tests.helpers.boards import SIX, make_board, page_of
from tests.leaderboard.conftest import World

SUBJECTS = ("s0018", "s0019")
MADE = {"prompt-only": "floor", "real-photo": "ceiling", "reconstruction": "reconstruction", "described": "described"}


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("anchors") / "results"
    assert main(["--config", str(world.config), "--output", str(output), "--runs", str(world.run)]) == 0
    return output


def dataset(folder: Path, texts: dict[str, str | None]) -> str:
    """The world's photos with other words for what the subjects look like."""
    rows = [row for number in (18, 19) for row in rows_of(number, Grid(20, 3, 3))]
    folder.mkdir()
    told = [{**row, "subject_text": texts[row["subject_id"]]} for row in rows]
    Dataset.from_list(told, features=features()).to_parquet(folder / "test.parquet")
    return str(folder)


def board_of(output: Path) -> dict:
    return json.loads((output / "leaderboard.json").read_text())


def origin(path: Path) -> dict:
    return json.loads(Image.open(path).text["Likeness"])


def test_the_rows_are_made_in_their_order_and_take_no_mark(finished: Path, world: World) -> None:
    board = board_of(finished)
    kinds = {entry["label"]: entry["kind"] for entry in board["entries"]}
    assert kinds == MADE | {world.run.name: "method"}
    assert list(kinds.values()) == list(KINDS) and set(KINDS) - {"method"} == set(ANCHORS)
    assert board["absent"] == [] and "clothes_copied" in board["metrics"]
    for name in board["metrics"]:
        assert not mark(board, name).keys() & MADE.keys()
        assert all({pair["a"], pair["b"]}.isdisjoint(MADE) for pair in board["comparisons"].get(name, [])), (
            "Holm's correction is over the methods"
        )


def test_a_reconstruction_is_the_ceilings_photo_through_the_autoencoder(finished: Path, world: World) -> None:
    results = Results(finished)
    protocol = results.protocol()
    galleries = load_galleries(results.galleries, tuple(protocol.subjects))
    subjects = {s.id: s for s in load_subjects(str(world.root / "dataset"), 2, protocol.resolution)}
    request = protocol.requests[3]
    photo = left_out_photo(protocol, galleries, request)
    backbone = load_backbone(str(world.root / "base"))
    with torch.inference_mode():
        latents = backbone.vae.encode(
            torch.from_numpy(subjects[request.subject].held_out[photo][None]).permute(0, 3, 1, 2) / 127.5 - 1
        ).latent_dist.mode()
        pixels = (backbone.vae.decode(latents).sample[0].permute(1, 2, 0).numpy() + 1) * 127.5
    path = results.entry("reconstruction").image(request.id)
    assert np.abs(np.asarray(Image.open(path)) - pixels.clip(0, 255)).max() <= 1
    assert origin(path)["photo"] == photo == origin(results.entry("real-photo").image(request.id))["photo"]
    assert origin(path)["autoencoder"] == protocol.backbone
    row = next(entry for entry in board_of(finished)["entries"] if entry["label"] == "reconstruction")
    assert row["costs"]["seconds_per_image"] is None
    if "kid" in row["metrics"]:
        assert row["metrics"]["kid"]["value"] is None, "its images are of the photos that it would be compared with"


def test_described_is_the_base_model_told_the_datasets_words(finished: Path, world: World) -> None:
    results = Results(finished)
    protocol = results.protocol()
    told = {name: f"person {description(draw_subject(name))}" for name in SUBJECTS}
    assert json.loads(results.descriptions.read_text()) == told
    row = next(entry for entry in board_of(finished)["entries"] if entry["label"] == "described")
    assert row["manifest"] == {"told": told}
    for request in protocol.requests:
        paths = {label: results.entry(label).image(request.id) for label in ("described", "prompt-only")}
        assert origin(paths["described"]) | {"entry": "prompt-only"} == origin(paths["prompt-only"]) | {
            "told": told[request.subject]
        }
        assert told[request.subject] in spoken(request.prompt, request.subject, told)
    images = {label: [p.read_bytes() for p in sorted(finished.glob(f"entries/{label}/images/*"))] for label in paths}
    assert images["described"] != images["prompt-only"]


def test_what_subjects_look_like_changes_no_other_row(finished: Path, world: World, tmp_path: Path) -> None:
    """The same protocol, images and records, byte for byte; the row is n/a and the board says why."""
    config = world.change(dataset=dataset(tmp_path / "silent", dict.fromkeys(SUBJECTS)))
    output = tmp_path / "results"
    assert main(["--config", str(config), "--output", str(output), "--runs", str(world.run)]) == 0
    assert Results(output).protocol() == Results(finished).protocol()
    for label in ("prompt-only", "real-photo", "reconstruction", world.run.name):
        for pattern in ("images/*.png", "records.jsonl"):
            mine, theirs = (sorted((p / "entries" / label).glob(pattern)) for p in (output, finished))
            assert [p.read_bytes() for p in mine] == [p.read_bytes() for p in theirs] != []
    board = board_of(output)
    assert "described" not in [entry["label"] for entry in board["entries"]]
    assert [text.split(",")[0] for text in board["absent"]] == ["described"]
    assert not Results(output).descriptions.exists()


def test_without_a_base_model_only_photos_are_there(world: World, tmp_path: Path) -> None:
    output = tmp_path / "results"
    assert main(["--config", str(world.config), "--output", str(output), "--protocol.backbone", "null"]) == 0
    board = board_of(output)
    assert [entry["label"] for entry in board["entries"]] == ["real-photo"]
    assert [text.partition(",")[0] for text in board["absent"]] == ["reconstruction", "described"]
    text = (output / "leaderboard.md").read_text()
    assert "- reconstruction, the ceiling's photo through the base model's autoencoder, is n/a: it takes a base" in text


def test_some_subjects_without_words_leave_the_row_out(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = dataset(tmp_path / "half", {"s0018": "with green hair", "s0019": None})
    config = world.change(dataset=source)
    output = tmp_path / "results"
    assert main(["--config", str(config), "--output", str(output), "--stage", "plan"]) == 0
    assert "note: there is no `subject_text` for s0019: the row described is left out" in capsys.readouterr().out


def test_other_words_for_a_subject_are_refused(
    finished: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "descriptions.json").read_bytes()
    source = dataset(tmp_path / "other", {**dict.fromkeys(SUBJECTS, "with green hair")})
    assert main(["--config", str(world.change(dataset=source)), "--output", str(finished)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "s0018" in error and "take another --output" in error
    assert (finished / "descriptions.json").read_bytes() == before


def test_their_labels_are_taken_where_they_are_generated(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--config", str(world.config), "--output", str(tmp_path / "x")]
    for label in MADE:
        assert main([*base, "--runs", f"{label}={world.run}"]) == 2
        assert f"label {label!r} is taken" in capsys.readouterr().err
        assert main([*base, "--images", f"{label}={tmp_path}"]) == 2
        said = capsys.readouterr().err
        assert ("is generated by protocol.backbone" in said) is (not ANCHORS[MADE[label]].shows_photo)
    for label in ("real-photo", "reconstruction"):
        assert main([*base, "--protocol.backbone", "null", "--images", f"{label}={tmp_path}"]) == 2
        assert "is taken" in capsys.readouterr().err, "whose photo it is only we know"


def test_tables_and_page_say_what_they_are(tmp_path: Path) -> None:
    kinds = MADE | {"ours": "method", "theirs": "method"}
    results, board = make_board(tmp_path, kinds=kinds, subjects=SIX)
    labels = [entry["label"] for entry in board["entries"]]
    assert labels == ["real-photo", "reconstruction", "ours", "theirs", "described", "prompt-only"]
    groups = to_latex(board).split(r"\midrule")[1:]
    assert [group.count(r"\\") for group in groups] == [2, 2, 2]
    assert "described (in words)" in groups[2] and "reconstruction (through the VAE)" in groups[0]
    page = page_of(results, board)
    assert '<bdi>described</bdi> <span class="kind">in words</span>' in page
    assert 'class="point c0 described"' in page and 'class="point c0 reconstruction"' not in page
    scored = {entry["label"]: entry["metrics"] for entry in board["entries"]}
    plain = make_board(tmp_path / "plain", subjects=SIX)[1]
    assert set(plain["ties"]["clip_t"]) == set(board["ties"]["clip_t"]) == {"ours", "theirs"}
    assert scored["described"]["prompt_kept"]["value"] is not None

"""All judges at once, with a second face network, a network of DINO's kind and LPIPS, from the command to the page."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from markupsafe import escape
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ViTImageProcessorPil, ViTModel

from datamodules.subjects import load_subjects
from evaluate import main
from leaderboard.results.folder import Results
from pocket.tiny.components import SIDE, random_lpips, tiny_vit
from tests.leaderboard.conftest import World
from tests.networks.test_lpips import by_hand

MORE = ("identity_second_opinion", "image_similarity", "image_similarity_foreground", "lpips_diversity")
METHOD = "spotdiff"


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation by all judges, the options that name them, and their weights."""

    output: Path
    options: tuple[str, ...]
    vit: Path
    lpips: Path

    @property
    def board(self) -> dict:
        return json.loads((self.output / "leaderboard.json").read_text())

    @property
    def method(self) -> dict:
        return next(entry for entry in self.board["entries"] if entry["kind"] == "method")

    def image(self, request_id: str) -> NDArray[np.uint8]:
        return np.array(Image.open(Results(self.output).entry(METHOD).image(request_id)).convert("RGB"))


@pytest.fixture(scope="module")
def evaluated(world: World, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    root = tmp_path_factory.mktemp("judges")
    vit, lpips = tiny_vit(root / "vit"), random_lpips(root / "alex.safetensors")
    judges = {"image_backbone": vit, "lpips": lpips, "second_faces": world.root / "faces"}
    options = tuple(word for name, path in judges.items() for word in (f"--judges.{name}", str(path)))
    arguments = ["--config", str(world.config), "--output", str(root / "results"), "--runs", str(world.run)]
    assert main([*arguments, *options]) == 0
    return Evaluated(root / "results", options, vit, lpips)


def stock_features(folder: Path, pictures: NDArray[np.uint8]) -> Tensor:
    """Unit class tokens (B, D) by transformers alone."""
    model, processor = ViTModel.from_pretrained(folder, add_pooling_layer=False), ViTImageProcessorPil
    pixels = processor.from_pretrained(folder)(list(pictures), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return F.normalize(model.eval()(pixel_values=pixels).last_hidden_state[:, 0], dim=-1)


def test_every_judge_gives_records_and_columns_with_a_card(evaluated: Evaluated) -> None:
    board = evaluated.board
    for label in (METHOD, "prompt-only", "real-photo"):
        for record in Results(evaluated.output).entry(label).records().values():
            assert {*MORE, "image_similarity_to_reference"} <= record.scores.keys()
            assert set(MORE) <= record.metric_versions.keys()
    for name in MORE:
        assert evaluated.method["metrics"][name]["value"] is not None
        assert board["metrics"][name]["version"] == board["protocol"]["metrics"][name]
    assert board["metrics"]["lpips_diversity"]["low"] == 0.0 and board["metrics"]["lpips_diversity"]["high"] is None


def test_likeness_of_images_and_the_dreambench_column_are_the_stock_networks(
    evaluated: Evaluated, world: World
) -> None:
    requests = Results(evaluated.output).protocol().requests
    known = {s.id: s for s in load_subjects(str(world.root / "dataset"), 2, SIDE)}
    generated = stock_features(evaluated.vit, np.stack([evaluated.image(r.id) for r in requests]))
    held_out = {name: stock_features(evaluated.vit, s.held_out) for name, s in known.items()}
    references = {name: stock_features(evaluated.vit, s.reference[None])[0] for name, s in known.items()}
    alike = [float((held_out[r.subject] @ f).mean()) for r, f in zip(requests, generated, strict=True)]
    seen = [float(references[r.subject] @ f) for r, f in zip(requests, generated, strict=True)]
    records = Results(evaluated.output).entry(METHOD).records()
    assert [records[r.id].scores["image_similarity"] for r in requests] == pytest.approx(alike, abs=1e-4)
    assert [records[r.id].scores["image_similarity_to_reference"] for r in requests] == pytest.approx(seen, abs=1e-4)
    assert evaluated.method["metrics"]["image_similarity"]["value"] == pytest.approx(np.mean(alike), abs=1e-4)
    presets = evaluated.method["presets"]["dreambench"]
    assert presets["image_similarity_to_reference"] == pytest.approx(np.mean(seen), abs=1e-4)
    assert abs(np.mean(seen) - np.mean(alike)) > 1e-4, "the two conventions differ here"


def test_lpips_diversity_is_the_distance_of_the_two_samples(evaluated: Evaluated) -> None:
    requests, weights = Results(evaluated.output).protocol().requests, load_file(evaluated.lpips)
    pairs = [(a, b) for a, b in pairwise(requests) if (a.subject, a.prompt_id) == (b.subject, b.prompt_id)]
    expected = [by_hand(weights, evaluated.image(a.id), evaluated.image(b.id)) for a, b in pairs]
    records = Results(evaluated.output).entry(METHOD).records()
    for (a, b), distance in zip(pairs, expected, strict=True):
        assert records[a.id].scores["lpips_diversity"] == pytest.approx(distance, rel=1e-3, abs=1e-6)
        assert records[a.id].scores["lpips_diversity"] == records[b.id].scores["lpips_diversity"]
    assert evaluated.method["metrics"]["lpips_diversity"]["value"] == pytest.approx(np.mean(expected), rel=1e-3)
    assert min(expected) > 0


def test_cards_and_page_name_them(evaluated: Evaluated, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["--config", str(world.config), "--stage", "cards", *evaluated.options]) == 0
    listed, page = capsys.readouterr().out, (evaluated.output / "leaderboard.html").read_text()
    for name in MORE:
        card = evaluated.board["metrics"][name]
        assert f"({name}, " in listed and card["version"] in listed
        assert f'id="card-{name}"' in page and escape(card["version"]) in page
    assert "(lpips_diversity, diversity; higher is better, from 0)" in listed
    assert '<span class="muted">higher is better, from 0</span>' in page
    assert f"{evaluated.method['presets']['dreambench']['image_similarity_to_reference']:.3f}" in page


def test_other_weights_are_another_version(evaluated: Evaluated, world: World, tmp_path: Path) -> None:
    """What is scored stays apart from what another LPIPS would say."""
    weights = load_file(evaluated.lpips)
    weights["lin0.model.1.weight"] *= 2
    save_file(weights, tmp_path / "other.safetensors")
    options = list(evaluated.options)
    options[options.index(str(evaluated.lpips))] = str(tmp_path / "other.safetensors")
    before = (evaluated.output / "protocol.json").read_bytes()
    arguments = ["--config", str(world.config), "--output", str(evaluated.output), "--runs", str(world.run)]
    assert main([*arguments, *options]) == 2
    assert (evaluated.output / "protocol.json").read_bytes() == before
    assert yaml.safe_load(before)["metrics"]["lpips_diversity"] in (evaluated.output / "leaderboard.html").read_text()

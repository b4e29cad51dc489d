"""What a card says about a column: everything that moves its numbers is in the version, its range in words."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import ResNetConfig, ResNetModel

import metrics.card as card_module
from contracts.settings import JudgeSettings
from leaderboard.report.tables.cards import list_of_cards
from leaderboard.report.tables.titles import range_text
from metrics.card import MetricCard
from metrics.registry import METRICS, list_cards
from networks.face_analysis import FacePack
from pocket.models.paths import FACES_B
from pocket.tiny.components import tiny_vit
from tests.leaderboard.conftest import World

ROOT = Path(__file__).parents[2]

BY_FACES = [name for name, metric in METRICS.items() if metric.judge == "faces" and "pair" not in metric.needs]


def cards(world: World) -> dict[str, MetricCard]:
    judges = JudgeSettings(str(world.root / "faces"), str(world.root / "clip"))
    return {card.name: card for card in list_cards(judges, samples=2, images=8)}


def test_versions_of_face_columns_name_detection_side_and_threshold(world: World) -> None:
    pack = FacePack(str(world.root / "faces")).fingerprint
    found = cards(world)
    for name in BY_FACES:
        assert found[name].version.startswith(f"{name}@faces-{pack[:8]}|det128-thr0.5|largest|"), found[name].version
    assert not any("det128" in card.version for name, card in found.items() if card.backbone == "CLIP")


def test_the_pocket_versions_stay_as_they_are() -> None:
    """Results that exist are compared by them."""
    pocket = yaml.safe_load((ROOT / "configs" / "evaluation" / "pocket.yaml").read_text())["judges"]
    found = {card.name: card.version for card in list_cards(JudgeSettings(**pocket), samples=2, images=400)}
    faces = "faces-c297dcde|det128-thr0.5|parts2-thr0.5-x2.4|largest"
    assert found["identity_misses_zero"] == f"identity_misses_zero@{faces}|cos-mean-held-out|x1|miss-0"
    second = f"{faces}|second-7c3a215f|same-faces|cos-mean-held-out|x1|found-only"
    assert found["identity_second_opinion"] == f"identity_second_opinion@{second}"


def test_other_sides_or_another_threshold_are_another_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def versions(det_size: int | list[int]) -> dict[str, str]:
        judges = JudgeSettings(str(FACES_B), str(world.root / "clip"), det_size=det_size)
        return {card.name: card.version for card in list_cards(judges, samples=2, images=8)}

    before = versions(128)
    assert all("|det128-thr0.5|" in before[name] for name in BY_FACES)
    for sides, tag in (([640], "|det640-thr0.5|"), ([640, 128], "|det128+640-thr0.5|")):
        after = versions(sides)
        assert {name for name in after if after[name] != before[name]} == {*BY_FACES, "face_complete"}
        assert all(tag in after[name] for name in BY_FACES)
    monkeypatch.setattr(card_module, "SCORE_THRESHOLD", 0.4)
    assert all("|det128-thr0.4|" in version for name, version in versions(128).items() if name in BY_FACES)


def test_the_detector_runs_at_the_sides_and_threshold_of_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    pack, asked = FacePack(FACES_B, [128, 320]), []
    detector = pack.detector.model  # type: ignore[attr-defined]
    detect = detector.detect

    def watching(picture: np.ndarray, input_size: tuple[int, int]) -> tuple:
        asked.append((input_size, detector.det_thresh))
        return detect(picture, input_size=input_size)

    monkeypatch.setattr(detector, "detect", watching)
    pack.judge(np.full((2, 64, 64, 3), 128, np.uint8))
    assert asked == [((128, 128), 0.5), ((320, 320), 0.5)] * 2


def test_a_detector_of_a_fixed_side_is_used_and_named_at_it(world: World) -> None:
    pack = FacePack(world.root / "faces", [320, 640])
    assert pack.sides == (128,)
    assert all("|det128-thr0.5|" in card.version for card in cards(world).values() if card.name in BY_FACES)


def test_how_an_image_network_is_pooled_is_in_its_version(world: World, tmp_path: Path) -> None:
    resnet = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
    resnet.save_pretrained(tmp_path / "resnet")
    for folder, pooling, steps in (
        (tiny_vit(tmp_path / "vit"), "cls", "class token"),
        (tmp_path / "resnet", "pooler", "its own pooled output"),
    ):
        judges = JudgeSettings(str(world.root / "faces"), str(world.root / "clip"), image_backbone=str(folder))
        card = {card.name: card for card in list_cards(judges, samples=2, images=8)}["image_similarity"]
        assert f"|pil|{pooling}|fp32|" in card.version and card.preprocessing.endswith(f"fp32, {steps}")


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.0, 1.0, "0 to 1"), (0.0, None, "from 0"), (None, 1.0, "up to 1"), (None, None, ""), (-2.0, 2.0, "-2 to 2")],
)
def test_a_range_may_be_open_on_either_side(world: World, low: float | None, high: float | None, text: str) -> None:
    assert range_text(low, high) == text
    card = replace(cards(world)["clip_t"], low=low, high=high)
    heading = list_of_cards([card]).splitlines()[0]
    assert f"(clip_t, text; higher is better{', ' + text if text else ''}): " in heading

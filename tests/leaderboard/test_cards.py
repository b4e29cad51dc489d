"""What a card says about a column: everything that moves its numbers is in the version, its range in words."""

from dataclasses import replace

import numpy as np
import pytest

import metrics.card as card_module
from contracts.settings import JudgeSettings
from leaderboard.report.tables.cards import list_of_cards
from leaderboard.report.tables.titles import range_text
from metrics.card import MetricCard
from metrics.registry import METRICS, list_cards
from networks.face_analysis import FacePack
from tests.leaderboard.conftest import World

BY_FACES = [name for name, metric in METRICS.items() if metric.judge == "faces"]


def cards(world: World) -> dict[str, MetricCard]:
    judges = JudgeSettings(str(world.root / "faces"), str(world.root / "clip"))
    return {card.name: card for card in list_cards(judges, samples=2, images=8)}


def test_versions_of_face_columns_name_detection_side_and_threshold(world: World) -> None:
    pack = FacePack(str(world.root / "faces")).fingerprint
    found = cards(world)
    for name in BY_FACES:
        assert found[name].version.startswith(f"{name}@faces-{pack[:8]}|det128-thr0.5|largest|"), found[name].version
    assert not any("det128" in card.version for name, card in found.items() if card.backbone == "CLIP")


@pytest.mark.parametrize(
    ("setting", "value", "tag"),
    [("DETECTION_SIDE", 640, "|det640-thr0.5|"), ("SCORE_THRESHOLD", 0.4, "|det128-thr0.4|")],
)
def test_another_side_or_threshold_is_another_version(
    world: World, monkeypatch: pytest.MonkeyPatch, setting: str, value: float, tag: str
) -> None:
    before = cards(world)
    monkeypatch.setattr(card_module, setting, value)
    after = cards(world)
    changed = {name for name, card in after.items() if card.version != before[name].version}
    assert changed == set(BY_FACES)
    assert all(tag in after[name].version for name in BY_FACES)


def test_the_detector_runs_at_the_side_and_threshold_of_its_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, asked = FacePack(str(world.root / "faces")), []
    detector = pack.app.det_model
    detect = detector.detect

    def watching(picture: np.ndarray, input_size: tuple[int, int]) -> tuple:
        asked.append((input_size, detector.det_thresh))
        return detect(picture, input_size=input_size)

    monkeypatch.setattr(detector, "detect", watching)
    pack.judge(np.full((2, 64, 64, 3), 128, np.uint8))
    assert asked == [((128, 128), 0.5)] * 2


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.0, 1.0, "0 to 1"), (0.0, None, "from 0"), (None, 1.0, "up to 1"), (None, None, ""), (-2.0, 2.0, "-2 to 2")],
)
def test_a_range_may_be_open_on_either_side(world: World, low: float | None, high: float | None, text: str) -> None:
    assert range_text(low, high) == text
    card = replace(cards(world)["clip_t"], low=low, high=high)
    heading = list_of_cards([card]).splitlines()[0]
    assert f"(clip_t, text; higher is better{', ' + text if text else ''}): " in heading

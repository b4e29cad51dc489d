"""Faces and two subjects: the matching, and what each score says of cosines that are known."""

from itertools import permutations

import numpy as np
import pytest

from contracts.protocol import Prompt
from contracts.records import Request
from contracts.settings import JudgeSettings
from datamodules.image_io import read_square
from leaderboard.generate.photos import side_by_side
from leaderboard.report.statistics import ratio_interval
from leaderboard.score.scoring import missing_record
from metrics.base import PAIR_NEEDS, PlanIndex
from metrics.card import versions
from metrics.curve import curve_cards
from metrics.functional.pairs import match_faces, pair_confusion, pair_identity
from metrics.registry import METRICS, list_cards
from networks.face_analysis import FacePack
from pocket.models.paths import CLIP, FACES_B
from tests.helpers.real import REAL, needs_real
from tests.leaderboard.test_protocol import make_protocol

APART = np.array([[0.8, 0.1], [0.2, 0.7]])
"""Two faces, one of each subject."""
SCORES = ("count_accuracy", "pair_identity", "pair_confusion")


def scores(similarities: np.ndarray) -> tuple[float, float, float]:
    return tuple(METRICS[name].of_faces(similarities) for name in SCORES)  # type: ignore[attr-defined, return-value]


def test_the_matching_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    for faces in (2, 3, 5):
        for _ in range(20):
            cosines = rng.uniform(-1, 1, (faces, 2))
            best = max(permutations(range(faces), 2), key=lambda pair: cosines[pair[0], 0] + cosines[pair[1], 1])
            assert match_faces(cosines) == dict(enumerate(best))


def test_two_faces_of_both_are_right_wherever_they_stand() -> None:
    assert scores(APART) == (1.0, pytest.approx(0.75), 0.0)
    assert scores(APART[::-1]) == scores(APART)


def test_the_opposite_matching_is_wholly_confused() -> None:
    opposite = {subject: 1 - face for subject, face in match_faces(APART).items()}
    assert pair_confusion(APART, opposite) == 1.0 and pair_identity(APART, opposite) == pytest.approx(0.15)


def test_one_person_twice_is_half_confused() -> None:
    """The second face has to stand for the other subject, and is more like the first."""
    twice = np.array([[0.8, 0.1], [0.7, 0.2]])
    assert scores(twice) == (1.0, pytest.approx(0.5), 0.5)


def test_who_is_missed_counts_as_nobody_and_as_confused() -> None:
    assert scores(APART[:1]) == (0.0, pytest.approx(0.4), 0.5)
    assert scores(np.zeros((0, 2))) == (0.0, 0.0, 1.0)
    third = np.array([[0.3, 0.3], *APART])
    assert scores(third) == (0.0, *scores(APART)[1:]), "somebody else beside them is counted and not matched"


def test_an_image_that_an_entry_lacks_is_a_miss() -> None:
    request = Request("s1", "p", "a <subject> and a <s2>", "scene", 0, beside="s2")
    cards = list_cards(JudgeSettings(str(FACES_B), str(CLIP)), 2, 8, PAIR_NEEDS, {"people"})
    found = missing_record(request, True, versions(cards)).scores
    assert [found[name] for name in SCORES] == list(scores(np.zeros((0, 2))))
    assert all("every-face" in versions(cards)[name] for name in SCORES)
    curves = curve_cards({card.name: card for card in cards})
    assert curves.keys() == {"pair_at_prompt_0.95", "pair_prompt_area"}


@pytest.mark.parametrize(("subjects", "prompts"), [(12, 6), (25, 8)])
def test_intervals_hold_where_both_subjects_decide_an_image(subjects: int, prompts: int) -> None:
    """Subjects differ, images too. By the first subject alone the intervals are far too narrow."""
    requests = make_protocol(
        subjects={f"s{i}": "person" for i in range(subjects)},
        prompts=tuple(Prompt(f"p{i}", "scene", "a <subject> and a <subject>") for i in range(prompts)),
    ).requests
    index = PlanIndex(requests, [f"s{i}" for i in range(subjects)], 2)
    rng, covered, narrow = np.random.default_rng(0), [], []
    for _ in range(300):
        own = rng.normal(0.5, 0.1, subjects)
        scores = (own[index.subject] + own[index.beside]) / 2 + rng.normal(0, 0.05, len(requests))
        rows = index.rows(scores, np.arange(len(requests)))
        for name, holds in (("pair_identity", covered), ("clip_t", narrow)):
            column = METRICS[name].by_subject(rows)
            assert column is not None and column.value == pytest.approx(scores.mean())
            found = ratio_interval(column)
            assert found.low is not None and found.high is not None
            holds.append(found.low < 0.5 < found.high)
    assert np.mean(covered) > 0.92 and np.mean(narrow) < 0.85


@needs_real
def test_two_real_photos_side_by_side_show_two_people() -> None:
    """At half the side every face is found, matched to its own person, and to nobody in the opposite matching."""
    pack, side = FacePack(REAL / "faces_open_centred"), 512
    files = [sorted(person.glob("*.jpg")) for person in sorted((REAL / "people").iterdir())[:5]]

    def photo(person: int, number: int, side: int) -> np.ndarray:
        file = files[person][number]
        return read_square(file.read_bytes(), str(file), side)

    known = [pack.judge(np.stack([photo(p, i, side) for i in (0, 1)])).embeddings.mean(axis=0) for p in range(5)]
    for own in range(5):
        other = (own + 1) % 5
        image = side_by_side([photo(own, 2, side // 2), photo(other, 2, side // 2)], side)
        (faces,) = pack.judge(image[None]).every
        found = faces @ np.stack([known[own], known[other]], axis=1)
        matching = match_faces(found)
        assert len(faces) == 2 and pair_confusion(found, matching) == 0.0 and pair_identity(found, matching) > 0.5
        assert pair_confusion(found, {subject: 1 - face for subject, face in matching.items()}) == 1.0

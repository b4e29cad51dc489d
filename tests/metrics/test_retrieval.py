"""Ranks of the right person, on cosines that are known."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from contracts.records import Request
from metrics.functional.retrieval import average_precision, first_is_right
from metrics.gallery import Gallery
from metrics.judges import JudgedImages
from metrics.registry import METRICS
from tests.helpers.metric_tester import JudgedPlan


def test_the_right_person_must_be_above_every_other() -> None:
    owners = np.array([0, 0, 2, 2])
    assert first_is_right(np.array([0.5, 0.7]), np.array([0.9, 0.1, 0.5, 0.6]), owners) == 1.0
    assert first_is_right(np.array([0.5, 0.5]), np.array([0.9, 0.2, 0.5, 0.4]), owners) == 0.0
    assert first_is_right(np.array([0.5]), np.array([0.5, 0.5, 0.1, 0.1]), owners) == 0.0, "a tie finds nobody"


def test_average_precision_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        own, others = rng.normal(0.3, 0.3, 4), rng.normal(0, 0.3, 30)
        expected = average_precision_score([1] * 4 + [0] * 30, [*own, *others])
        assert average_precision(own, others) == pytest.approx(expected)
    assert average_precision(np.array([0.9, 0.8]), np.array([0.1])) == 1.0


def test_look_alikes_fool_a_cosine_and_no_rank(tmp_path: Path) -> None:
    plan = JudgedPlan.make(tmp_path)
    (batch, *_) = plan.batches
    gallery = batch.galleries[0]
    width = gallery.held_out["faces"].shape[1]

    def person(*angles: float) -> Gallery:
        rows = np.zeros((len(angles), width), np.float32)
        rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
        return Gallery(**{**vars(gallery), "held_out": {"faces": rows}, "company": ()})

    own, twin, other = person(0.0, 0.1), person(0.2, 0.3), person(2.0)
    mine = Gallery(**{**vars(own), "company": (twin, other)})
    faces = np.zeros((3, width), np.float32)
    faces[:, 0], faces[:, 1] = np.cos([0.0, 0.3, 0.16]), np.sin([0.0, 0.3, 0.16])
    judged = JudgedImages(**{**vars(batch), "galleries": [mine] * 3, "requests": [Request("a", "p", "", "mix", 0)] * 3})
    judged.seen.features["faces"][:3] = faces  # type: ignore[index]
    judged.seen.judged.found[:3] = True
    assert METRICS["retrieval_top1"].score(judged).tolist() == [1.0, 0.0, 0.0]
    assert METRICS["identity_misses_zero"].score(judged).min() > 0.9, "the cosines are all high"
    ranks = METRICS["retrieval_map"].score(judged)
    assert ranks[0] == 1.0 and ranks[1] == pytest.approx((1 / 3 + 2 / 4) / 2)
    judged.seen.judged.found[:3] = False
    assert METRICS["retrieval_top1"].score(judged).tolist() == [0.0] * 3
    alone = JudgedImages(**{**vars(judged), "galleries": [own] * 3})
    assert METRICS["retrieval_top1"].score(alone).isnan().all()

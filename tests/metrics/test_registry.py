"""Every registered metric, by one tester: a new metric needs no test file for what is the same for all."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from metrics.base import NEEDS, PAIR_NEEDS, Metric
from metrics.card import GROUPS, PlanSize, judge_networks
from metrics.derived import DERIVED
from metrics.registry import METRICS, list_cards, metrics_of
from tests.helpers.metric_tester import NOUNS, SAMPLES, JudgedPlan, check_metric

Groups = list[NDArray[np.float64]]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> JudgedPlan:
    return JudgedPlan.make(tmp_path_factory.mktemp("judged"))


def rows_of(metric: Metric, plan: JudgedPlan) -> NDArray[np.float64]:
    return np.concatenate([metric.rows(batch) for batch in plan.batches]).astype(np.float64)


def groups_of(metric: Metric, plan: JudgedPlan) -> Groups:
    pairs = zip(plan.requests, rows_of(metric, plan), strict=True)
    grouped = itertools.groupby(pairs, lambda pair: (pair[0].subject, pair[0].prompt_id))
    return [np.stack([row for _, row in group]) for _, group in grouped]


def diversity_by_hand(groups: Groups, photos: NDArray) -> float:
    """SciPy's cosine distance of every pair."""
    return float(np.mean([pdist(group, "cosine").mean() for group in groups if len(group) > 1]))


def vendi_by_hand(groups: Groups, photos: NDArray) -> float:
    """The eigenvalues of the other Gram matrix (D x D), whose non-zero ones are the same; complete groups only."""
    scores = []
    for group in groups:
        if len(group) == SAMPLES:
            values = np.linalg.eigvals(group.T @ group / SAMPLES).real
            scores.append(math.exp(-sum(v * math.log(v) for v in values if v > 1e-12)))
    return float(np.mean(scores))


def kid_by_hand(groups: Groups, photos: NDArray) -> float:
    """The definition of the unbiased estimate, pair by pair."""
    x, y = np.concatenate(groups), photos.astype(np.float64)

    def kernel(a: NDArray, b: NDArray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(some, 2)]) for some in (x, y)]
    return float(sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y]))


BY_HAND: dict[str, Callable[[Groups, NDArray], float]] = {
    "diversity": diversity_by_hand,
    "vendi": vendi_by_hand,
    "kid": kid_by_hand,
}
"""What metrics of whole sets are, computed another way; every other one is the mean of the scores that there are."""


@pytest.mark.parametrize("name", METRICS)
def test_every_way_of_counting_agrees(name: str, plan: JudgedPlan) -> None:
    metric = METRICS[name]
    if metric.feature:
        expected = BY_HAND[name](groups_of(metric, plan), plan.photos)
    else:
        expected = float(np.nanmean(rows_of(metric, plan)))
    check_metric(metric, plan, expected)


@pytest.mark.parametrize("name", METRICS)
def test_scores_keep_to_the_cards_range_and_decimals(name: str, plan: JudgedPlan) -> None:
    metric = METRICS[name]
    card = metric.card(judge_networks(plan.settings), PlanSize(SAMPLES, len(plan.requests)))
    assert card.name == name and card.group in GROUPS and card.version.startswith(f"{name}@")
    assert card.about and card.title and len(card.backbone_hash) == 64
    if metric.feature:
        np.testing.assert_allclose(np.linalg.norm(rows_of(metric, plan), axis=1), 1.0, atol=1e-5)
        return
    scores = rows_of(metric, plan)
    scores = scores[np.isfinite(scores)]
    assert card.low is None or (scores >= card.low - 1e-6).all()
    assert card.high is None or (scores <= card.high + 1e-6).all()
    assert (scores == np.round(scores, 7)).all()


def test_identity_is_of_people_alone_and_a_miss_counts_in_two_of_its_columns(plan: JudgedPlan) -> None:
    owners = np.array([NOUNS[request.subject] for request in plan.requests])
    missed = np.array([r.prompt_id == "sketch" and r.sample == 1 for r in plan.requests])
    person = owners == "person"
    found = rows_of(METRICS["detection_rate"], plan)
    assert np.isnan(found[~person]).all() and (found[person] == ~missed[person]).all()
    complete = rows_of(METRICS["face_complete"], plan)
    assert (np.isnan(complete) == ~person).all() and (complete[person & missed] == 0).all()
    assert set(complete[person & ~missed]) == {0.0, 1.0}, "in dark images no mouth is read"
    given, zero = (rows_of(METRICS[f"identity_{part}"], plan) for part in ("given_detection", "misses_zero"))
    assert (np.isfinite(given) == (person & ~missed)).all()
    assert (zero[person & missed] == 0).all() and np.isnan(zero[~person]).all()
    np.testing.assert_array_equal(zero[person & ~missed], given[person & ~missed])


def test_metrics_follow_the_judges_that_are_configured(plan: JudgedPlan) -> None:
    from dataclasses import replace

    few = replace(plan.settings, second_faces=None, image_backbone=None, lpips=None)
    lost = {m.name for m in metrics_of(plan.settings)} - {m.name for m in metrics_of(few)}
    assert lost == {m.name for m in METRICS.values() if m.judge in ("second_faces", "image_backbone", "lpips")}
    assert [m.name for m in metrics_of(plan.settings, {*NEEDS, "pair"})] == list(METRICS), "the order of tables"
    pairs = {m.name for m in metrics_of(plan.settings, PAIR_NEEDS)}
    assert pairs > {"count_accuracy", "pair_identity", "pair_confusion", "clip_t", "diversity"}
    alone = {m.name for m in metrics_of(plan.settings)}
    assert (
        {m.name for m in METRICS.values()} - alone == pairs - alone == {n for n in pairs if "pair" in METRICS[n].needs}
    )
    given = metrics_of(plan.settings, {"image", "prompt"})
    assert {m.name for m in given} >= {"clip_t", "edit_margin"} and "kid" not in {m.name for m in given}


def test_no_two_columns_share_a_name_a_title_or_a_version(plan: JudgedPlan) -> None:
    cards = list_cards(plan.settings, SAMPLES, len(plan.requests), {*NEEDS, "pair"})
    for field in ("name", "title", "version"):
        values = [getattr(card, field) for card in cards]
        assert len(set(values)) == len(values), field
    assert not set(DERIVED) & set(METRICS) and {m.base for m in DERIVED.values()} <= set(METRICS)

"""The directions that are checked, on numbers made up so that each of them holds or fails."""

import copy

import numpy as np
import pytest

from claims import spotdiff
from claims.leakage import Drawn

HOLDS = {
    "f": {"pose": 0.9, "background": 0.9, "subject": 0.80},
    "z_p": {"pose": 0.95, "background": 0.2, "subject": 0.1},
    "z_b": {"pose": 0.2, "background": 0.95, "subject": 0.1},
    "z_s": {"pose": 0.5, "background": 0.5, "subject": 0.79},
}


def test_all_directions_hold() -> None:
    checks = spotdiff.probe_checks(HOLDS)
    assert len(checks) == 7
    assert all(check.holds for check in checks)


@pytest.mark.parametrize(
    ("feature", "factor", "value", "claim"),
    [
        ("z_s", "pose", 0.91, "S1 pose is read worse from z_s than from f"),
        ("z_s", "background", 0.9, "S1 background is read worse from z_s than from f"),
        ("z_s", "subject", 0.77, "S1 the subject probe drops by less than 2 points from f to z_s"),
        ("z_p", "pose", 0.89, "S2 pose from z_p is above 90 %"),
        ("z_b", "background", 0.9, "S2 background from z_b is above 90 %"),
        ("z_b", "pose", 0.96, "S2 pose is read worse from z_b than from z_p"),
        ("z_p", "background", 0.97, "S2 background is read worse from z_p than from z_b"),
    ],
)
def test_a_wrong_direction_is_named(feature: str, factor: str, value: float, claim: str) -> None:
    table = copy.deepcopy(HOLDS)
    table[feature][factor] = value
    assert [check.claim for check in spotdiff.probe_checks(table) if not check.holds] == [claim]


def test_leakage_is_compared_at_equal_identity() -> None:
    """The weaker run's best identity is 0.4; the stronger one leaks 0.3 there, between its scales."""
    weak = [Drawn(0.2, {"background": 0.1, "pose": 0.0}), Drawn(0.4, {"background": 0.2, "pose": 0.9})]
    strong = [
        Drawn(0.1, {"background": 0.1, "pose": 0.1}),
        Drawn(0.3, {"background": 0.2, "pose": 0.2}),
        Drawn(0.5, {"background": 0.4, "pose": 0.4}),
    ]
    background, pose = spotdiff.compare_leakage(weak, strong)
    assert (background.left, background.right) == pytest.approx((0.2, 0.3))
    assert background.holds and "identity 0.400" in background.claim
    assert (pose.left, pose.right) == pytest.approx((0.9, 0.3))
    assert not pose.holds
    assert np.isclose(spotdiff.compare_leakage(strong, weak)[0].left, 0.3)

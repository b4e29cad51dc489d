"""The directions that are checked, on numbers made up so that each of them holds or fails."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from claims import leakage, spotdiff
from claims.leakage import LeakageMeasurements

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


def measured(identity: float, background: float, pose: float) -> LeakageMeasurements:
    """Five subjects who leak about alike."""
    spread = np.array([-0.03, -0.015, 0.0, 0.015, 0.03])
    return LeakageMeasurements(identity, {"background": background + spread, "pose": pose + spread})


def test_leakage_is_compared_at_equal_identity() -> None:
    """The weaker run's best identity is 0.4; the stronger one leaks 0.3 there, between its scales."""
    weak = [measured(0.2, 0.1, 0.0), measured(0.4, 0.2, 0.9)]
    strong = [measured(0.1, 0.1, 0.1), measured(0.3, 0.2, 0.2), measured(0.5, 0.4, 0.4)]
    background, pose = spotdiff.compare_leakage(weak, strong)
    assert (background.left, background.right) == pytest.approx((0.2, 0.3))
    assert background.holds and "identity 0.400" in background.claim
    assert (pose.left, pose.right) == pytest.approx((0.9, 0.3))
    assert not pose.holds and pose.verdict == "WRONG"
    assert np.isclose(spotdiff.compare_leakage(strong, weak)[0].left, 0.3)


def test_leakage_that_differs_by_chance_leaves_the_claim_open() -> None:
    on = measured(0.4, 0.2, 0.2)
    off = measured(0.4, 0.2, 0.2)
    off.leakage["background"][:] += np.array([0.3, -0.3, 0.3, -0.3, 0.125])
    background = spotdiff.compare_leakage([on], [off])[0]
    assert not background.holds and background.verdict == "open" and "cannot be told apart" in background.note


def test_a_subjects_part_of_the_pose_leakage_averages_to_the_correlation() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 12, 2))
    parts = (leakage._standard(a) * leakage._standard(b)).mean(axis=1)
    assert parts.mean() == pytest.approx(np.mean([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(2)]))


def test_the_run_without_must_differ_in_the_constraint_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spotdiff, "load_spotdiff", lambda folder: None)
    monkeypatch.setattr(spotdiff, "load_test_set", lambda side: pytest.fail("the pair is looked at first"))
    for name, how, seed in (("run", "soft", 0), ("same", "soft", 0), ("seed", "none", 1)):
        (tmp_path / name).mkdir()
        model = {"init_args": {"orthogonality": how}}
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump({"model": model, "seed_everything": seed}))
    for name, words in (
        ("same", "model.orthogonality is soft in --run and soft in --without"),
        ("seed", "seed_everything too"),
    ):
        given = ["claims", "--run", str(tmp_path / "run"), "--without", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", given)
        assert spotdiff.main() == 2
        assert words in capsys.readouterr().err

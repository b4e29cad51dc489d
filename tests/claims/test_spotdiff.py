"""The directions that are checked, on numbers made up so that each of them holds or fails."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from claims import leakage, spotdiff
from claims.leakage import LeakageMeasurements

SPREAD = np.array([-0.03, -0.015, 0.0, 0.015, 0.03])
"""Five subjects who are about alike."""


def accuracies(**means: float) -> dict[str, np.ndarray]:
    return {factor: mean + SPREAD for factor, mean in means.items()}


HOLDS = {
    "f": accuracies(pose=0.9, background=0.9, subject=0.80),
    "z_p": accuracies(pose=0.95, background=0.2, subject=0.1),
    "z_b": accuracies(pose=0.2, background=0.95, subject=0.1),
    "z_s": accuracies(pose=0.5, background=0.5, subject=0.79),
}


def test_all_directions_hold() -> None:
    checks = spotdiff.probe_checks(HOLDS)
    assert len(checks) == 7
    assert all(check.holds for check in checks)


@pytest.mark.parametrize(
    ("feature", "factor", "value", "claim"),
    [
        ("z_s", "pose", 0.91, "S1 pose is read worse from z_s than from f"),
        ("z_s", "background", 0.88, "S1 background is read worse from z_s than from f"),
        ("z_s", "subject", 0.77, "S1 the subject probe drops by less than 2 points from f to z_s"),
        ("z_p", "pose", 0.89, "S2 pose from z_p is above 90 %"),
        ("z_b", "background", 0.9, "S2 background from z_b is above 90 %"),
        ("z_b", "pose", 0.96, "S2 pose is read worse from z_b than from z_p"),
        ("z_p", "background", 0.97, "S2 background is read worse from z_p than from z_b"),
    ],
)
def test_a_wrong_direction_is_named(feature: str, factor: str, value: float, claim: str) -> None:
    table = copy.deepcopy(HOLDS)
    table[feature][factor] = value + SPREAD[[1, 0, 2, 4, 3]]
    assert [check.claim for check in spotdiff.probe_checks(table) if not check.holds] == [claim]


def measured(identity: float, background: float, pose: float, clothes: float = 0.3) -> LeakageMeasurements:
    leakage = {"background": background + SPREAD, "pose": pose + SPREAD, "clothes": clothes + SPREAD}
    return LeakageMeasurements(identity + SPREAD, leakage, dict.fromkeys(leakage, 0.1))


def test_leakage_is_compared_at_equal_identity() -> None:
    """The weaker run's best identity is 0.4; the stronger one leaks 0.3 there, between its scales."""
    weak = [measured(0.2, 0.1, 0.0), measured(0.4, 0.2, 0.9)]
    strong = [measured(0.1, 0.1, 0.1), measured(0.3, 0.2, 0.2), measured(0.5, 0.4, 0.4)]
    background, pose, clothes, kept = spotdiff.compare_leakage([weak], [strong])
    assert (background.left, background.right) == pytest.approx((0.2, 0.3))
    assert background.holds and "identity 0.400" in background.claim and background.margin == 0.05
    assert (pose.left, pose.right) == pytest.approx((0.9, 0.3))
    assert pose.verdict == "does not hold" and pose.margin == 0.1
    assert clothes.verdict == "does not hold", "both leak alike"
    assert (kept.left, kept.right) == pytest.approx((0.4, 0.5)) and kept.verdict == "does not hold"
    swapped = spotdiff.compare_leakage([strong], [weak])
    assert np.isclose(swapped[0].left, 0.3) and swapped[3].holds


def test_leakage_that_differs_by_chance_leaves_the_claim_open() -> None:
    on = measured(0.4, 0.2, 0.2)
    off = measured(0.4, 0.2, 0.2)
    off.leakage["background"][:] += np.array([0.3, -0.3, 0.3, -0.3, 0.125])
    background = spotdiff.compare_leakage([[on]], [[off]])[0]
    assert background.verdict == "open" and "too few subjects or images to see an effect" in background.note


def test_trainings_are_paired_and_read_at_one_identity() -> None:
    on = [[measured(0.2, 0.10 + s, 0.1), measured(0.4, 0.12 + s, 0.1)] for s in (0.0, 0.01, 0.02)]
    off = [[measured(0.3, 0.30 + s, 0.3), measured(0.5, 0.32 + s, 0.3)] for s in (0.0, 0.01, 0.02)]
    background = spotdiff.compare_leakage(on, off)[0]
    assert (background.left, background.right) == pytest.approx((0.13, 0.32)) and background.holds
    assert (background.effect.subjects, background.effect.seeds) == (5, 3)
    lines = spotdiff.leakage_text("leakage, with", [[*sweep, sweep[-1]] for sweep in on]).splitlines()
    assert lines[0].split()[2:] == ["identity", "background", "pose", "clothes"]
    assert lines[1].split()[2:4] == ["0.200", "0.110"] and lines[-1].split() == ["chance", *["0.100"] * 3]


def test_control_moves_what_is_given_and_nothing_else() -> None:
    plain = [measured(0.4, 0.1, 0.0)]
    clean = {"nothing": plain, "pose": [measured(0.4, 0.1, 0.6)], "background": [measured(0.39, 0.5, 0.0)]}
    checks = spotdiff.compare_control(clean)
    assert len(checks) == 6 and all(check.holds for check in checks)
    mixed = {**clean, "pose": [measured(0.3, 0.4, 0.6)]}
    wrong = [check.claim for check in spotdiff.compare_control(mixed) if not check.holds]
    assert wrong == [
        "control: the background stays with z of the pose",
        "control: identity is kept with z of the pose",
    ]
    still = [check.claim for check in spotdiff.compare_control({**clean, "background": plain}) if not check.holds]
    assert still == ["control: the background is the reference's less without its z"]
    assert [line.split()[0] for line in spotdiff.control_text(clean).splitlines()] == ["given", *clean]


def test_a_subjects_part_of_the_pose_leakage_averages_to_the_correlation() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 12, 2))
    parts = (leakage._standard(a) * leakage._standard(b)).mean(axis=1)
    assert parts.mean() == pytest.approx(np.mean([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(2)]))


def test_the_run_without_must_differ_in_the_constraint_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spotdiff, "load_spotdiff", lambda folder: None)
    monkeypatch.setattr(spotdiff, "load_test_set", lambda side: pytest.fail("the pair is looked at first"))
    for name, how, seed in (("run", "soft", 0), ("same", "soft", 0), ("seed", "none", 1), ("good", "none", 0)):
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
    more = ["--run", str(tmp_path / "run"), str(tmp_path / "same"), "--without"]
    for without, words in (
        ([str(tmp_path / "good")], "--run names 2 trainings, --without 1"),
        ([str(tmp_path / "good"), str(tmp_path / "seed")], "two trainings have one seed"),
    ):
        monkeypatch.setattr(sys, "argv", ["claims", *more, *without])
        assert spotdiff.main() == 2
        assert words in capsys.readouterr().err

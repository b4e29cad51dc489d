"""Intervals of paired differences, on draws whose truth is known, and what they decide."""

from pathlib import Path

import numpy as np
import pytest

from claims.checks import keeps, less, line, report
from claims.effects import paired_effect
from claims.margins import FILE, margins
from contracts.errors import LikenessError
from leaderboard.report.statistics import Ratio, compare

ONE = np.ones(12)


def draws(seeds: int, by_seed: float, by_subject: float, rest: float, count: int = 200) -> np.ndarray:
    """Differences (count, seeds, 12) around 0 with these standard deviations."""
    rng = np.random.default_rng(0)
    parts = ((seeds, 1, by_seed), (1, 12, by_subject), (seeds, 12, rest))
    return sum(sd * rng.normal(size=(count, a, b)) for a, b, sd in parts)  # type: ignore[return-value]


def test_one_training_is_the_leaderboards_paired_test() -> None:
    left, right = np.random.default_rng(0).normal(size=(2, 12))
    found, known = paired_effect(left, right), compare(Ratio(left, ONE), Ratio(right, ONE))
    assert (found.difference, found.low, found.high) == pytest.approx((known.difference, known.low, known.high))
    assert (found.subjects, found.seeds) == (12, 1)


@pytest.mark.parametrize("spread", [(0.0, 1.0, 1.0), (1.0, 0.3, 0.3), (0.5, 0.5, 1.0)])
def test_intervals_cover_the_truth_over_subjects_and_seeds(spread: tuple[float, float, float]) -> None:
    found = [paired_effect(d, np.zeros_like(d)) for d in draws(3, *spread)]
    assert 0.9 < np.mean([f.low <= 0 <= f.high for f in found]) <= 0.99
    crossed = [paired_effect(d.mean(axis=0), 0 * ONE) for d in draws(3, 1.0, 0.3, 0.3)]
    assert np.mean([f.low <= 0 <= f.high for f in crossed]) < 0.5, "without the seeds it would be far too sure"


def test_a_difference_of_the_visible_size_is_mostly_found() -> None:
    noise = draws(1, 0.0, 0.7, 0.7)[:, 0]
    size = float(np.mean([paired_effect(d, 0 * ONE).visible for d in noise]))
    assert 0.7 < np.mean([paired_effect(d + size, 0 * ONE).low > 0 for d in noise]) < 0.9


def test_few_subjects_and_unequal_arms() -> None:
    few = paired_effect(ONE[:4], 0 * ONE[:4])
    assert few.difference == 1.0 and few.low is few.visible is None
    gaps = paired_effect(np.where(np.arange(12) < 2, np.nan, ONE), 0 * ONE)
    assert (gaps.subjects, gaps.low, gaps.high, gaps.visible) == (10, 1.0, 1.0, 0.0)
    assert paired_effect(np.full(6, np.nan), ONE[:6]).difference is None
    with pytest.raises(LikenessError, match="1 trainings of 12 subjects and 3 of 12 cannot be paired"):
        paired_effect(ONE, np.ones((3, 12)))


TIGHT = np.linspace(-0.01, 0.01, 12)
WIDE = np.linspace(-0.4, 0.4, 12)


@pytest.mark.parametrize(
    ("effect", "spread", "verdict"),
    [
        (0.2, TIGHT, "holds"),
        (0.0, TIGHT, "does not hold"),
        (0.03, TIGHT, "does not hold"),
        (-0.2, TIGHT, "does not hold"),
        (0.05, WIDE, "open"),
        (0.4, WIDE, "holds"),
        (-0.4, WIDE, "does not hold"),
    ],
    ids=["clear", "nothing", "below the margin", "the opposite", "too wide", "wide but clear", "wide the other way"],
)
def test_a_claim_is_decided_by_its_margin(effect: float, spread: np.ndarray, verdict: str) -> None:
    check = less("x", 0.5 - effect + spread, 0.5 + 0 * spread, "identity")
    assert check.verdict == verdict and check.holds is (verdict == "holds") and line(check).startswith(verdict)
    assert f"{check.effect.visible:.2g} could have been seen, margin 0.05" in line(check)
    assert ("it is there, but smaller than what matters" in line(check)) is (effect == 0.03)
    assert ("too few subjects or images" in line(check)) is (verdict == "open")


def test_without_a_margin_the_direction_is_decided() -> None:
    verdicts = [less("x", 0.5 - effect + TIGHT, 0.5 + 0 * TIGHT).verdict for effect in (0.03, 0.0, -0.03)]
    assert verdicts == ["holds", "open", "does not hold"]


@pytest.mark.parametrize(
    ("loss", "spread", "verdict"),
    [(0.0, TIGHT, "holds"), (0.2, TIGHT, "does not hold"), (0.0, WIDE, "open"), (-0.2, TIGHT, "holds")],
)
def test_no_harm_is_shown_and_not_assumed(loss: float, spread: np.ndarray, verdict: str) -> None:
    check = keeps("x", 0.5 - loss + spread, 0.5 + 0 * spread, "identity")
    assert check.verdict == verdict and check.holds is (verdict == "holds")


def test_trainings_count() -> None:
    """Over the subjects alone this would be sure; the three trainings do not agree."""
    seeds = np.array([[0.3], [0.0], [0.02]])
    on, off = 0.5 - seeds + TIGHT, np.full((3, 12), 0.5)
    assert less("x", on.mean(axis=0), off.mean(axis=0), "identity").verdict == "holds"
    check = less("x", on, off, "identity")
    assert check.verdict == "open" and "over 12 subjects x 3 trainings" in line(check)
    assert "too few trainings or subjects" in line(check)


def test_the_report_counts_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    right = 0.5 + 0 * TIGHT
    checks = [less("x", right - gap + TIGHT, right, "identity") for gap in (0.2, 0.0)]
    assert report(checks, "") == 1 and report(checks[:1], "") == 0
    assert "1 holds, 1 does not hold, 0 open" in capsys.readouterr().out


def test_margins_are_those_that_were_said_before(tmp_path: Path) -> None:
    assert margins() == {
        "identity": 0.05, "prompt_kept": 0.03, "rate": 0.05, "correlation": 0.1, "clip_i": 0.02, "dino": 0.02
    }  # fmt: skip
    for text, words in (("identity: 0.05", "exactly the keys identity, prompt_kept"), (None, "rate is 0, it must be")):
        file = tmp_path / f"{words[:4]}.yaml"
        file.write_text(text or FILE.read_text().replace("rate: 0.05", "rate: 0"))
        with pytest.raises(LikenessError, match=words):
            margins(file)

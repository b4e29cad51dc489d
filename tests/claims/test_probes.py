import numpy as np
import pytest

from claims.spotdiff import chance, probe_accuracy

LABELS = np.arange(120) % 4
NOISE = np.random.default_rng(0).normal(size=(120, 6))


def test_a_factor_that_the_feature_tells_is_read() -> None:
    told = NOISE.copy()
    told[:, :4] += 6 * np.eye(4)[LABELS]
    assert probe_accuracy(told, LABELS) > 0.95


def test_a_factor_that_the_feature_does_not_tell_is_guessed() -> None:
    assert abs(probe_accuracy(NOISE, LABELS) - chance(LABELS)) < 0.15


def test_the_scale_of_a_feature_does_not_matter() -> None:
    told = NOISE.copy()
    told[:, 0] += LABELS
    scales = np.array([1e-4, 1, 10, 100, 1e3, 1e4])
    assert probe_accuracy(told * scales + 5, LABELS) == pytest.approx(probe_accuracy(told, LABELS), abs=0.02)


def test_chance_is_the_share_of_the_most_frequent_label() -> None:
    assert chance(np.array([0, 0, 0, 2])) == 0.75

"""Probes on features made up so that what can be read of them is known."""

import numpy as np
import pytest

from claims.probes import FOLDS, by_subject, chance, probe

SUBJECTS = np.repeat(np.arange(12), 20)
LABELS = np.tile(np.arange(4), 60)
NOISE = np.random.default_rng(0).normal(size=(240, 8))
BY_LABEL = 6 * np.eye(8)[LABELS]


def accuracy(features: np.ndarray, labels: np.ndarray = LABELS, groups: np.ndarray = SUBJECTS) -> float:
    return float(probe(features, labels, groups).mean())


def test_a_factor_that_the_feature_tells_is_read() -> None:
    assert accuracy(NOISE + BY_LABEL) > 0.95


def test_a_factor_that_the_feature_does_not_tell_is_guessed() -> None:
    assert accuracy(NOISE) == pytest.approx(chance(NOISE, LABELS, SUBJECTS), abs=0.08)


def test_who_somebody_is_tells_nothing_of_a_subject_that_the_probe_has_not_seen() -> None:
    """Each subject has one label, which its own look tells: with its photos in both folds it would be read always."""
    own = 6 * np.random.default_rng(1).normal(size=(12, 8))
    labels = np.arange(12)[SUBJECTS] % 4
    features = NOISE + own[SUBJECTS]
    mixed = np.tile(np.arange(FOLDS), 60)
    assert accuracy(features, labels, mixed) > 0.95
    assert accuracy(features, labels) < 0.5


def test_a_background_of_ones_own_does_not_tell_who_it_is() -> None:
    """Each subject stands before two of eight backgrounds, and only these are in the feature."""
    backgrounds = (SUBJECTS + 3 * (np.arange(240) % 2)) % 8
    features = NOISE + 6 * np.eye(8)[backgrounds]
    assert accuracy(features, SUBJECTS, np.random.default_rng(1).permutation(240) % FOLDS) > 2.5 / 12
    assert accuracy(features, SUBJECTS, backgrounds) < 1.5 / 12


def test_chance_is_one_of_the_labels() -> None:
    assert chance(NOISE + BY_LABEL, LABELS, SUBJECTS) == pytest.approx(0.25, abs=0.06)


def test_the_scale_of_a_feature_does_not_matter() -> None:
    told = NOISE + BY_LABEL / 6
    scales = np.logspace(-4, 4, 8)
    assert accuracy(told * scales + 5) == pytest.approx(accuracy(told), abs=0.02)


def test_accuracy_is_kept_by_subject() -> None:
    right = SUBJECTS == 3
    assert by_subject(right, SUBJECTS).tolist() == [float(i == 3) for i in range(12)]

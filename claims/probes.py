"""Linear probes: how well a factor of a photo is read from a feature of it, where the probe cannot know it otherwise.

Photos of one subject are alike in more than the factor, so a probe that has seen some of them reads the others too
well. All photos of a subject are in one fold, and the probe is asked about subjects that it never saw. For the subject
itself that cannot be: there all photos before one background are in one fold, as each subject has backgrounds of its
own, which would tell who it is.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from claims.leakage import TestSet
from claims.measurements import Values
from lightning_modules.spotdiff import SpotDiff

GROUPED_BY = {"pose": "subject", "background": "subject", "clothes": "subject", "subject": "background"}
"""For each factor what the folds are made by."""
FEATURES = ("f", "z_p", "z_b", "z_s", "tokens")
FOLDS = 4
SHUFFLES = 5
Table = Mapping[str, Mapping[str, Values]]
"""Accuracy by feature and factor: of each of S subjects (S,), or of K trainings each (K, S)."""


def probe(features: NDArray[np.floating], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which photos (N,) a logistic regression on standardised ``features`` (N, D) reads right.

    It is asked about each photo after it was fitted on those of other ``groups`` (N,).
    """
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return cross_val_predict(reader, features, labels, groups=groups, cv=folds) == labels


def chance(features: NDArray[np.floating], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    """The accuracy of the same probe in the same folds where there is nothing to read.

    The labels of each group are shuffled among its photos, and the accuracy is the mean over a few shuffles.
    """
    random = np.random.default_rng(0)
    return float(np.mean([probe(features, _shuffled(labels, groups, random), groups).mean() for _ in range(SHUFFLES)]))


def _shuffled(labels: NDArray[np.int64], groups: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    shuffled = labels.copy()
    for group in np.unique(groups):
        shuffled[groups == group] = random.permutation(labels[groups == group])
    return shuffled


def probe_table(run: SpotDiff, data: TestSet) -> Table:
    """Accuracy of every subject, by feature and factor."""
    with torch.inference_mode():
        f = run.standardise(data.clip)
        factors = run.factor_features(f)
        tokens = run.identity_tokens(data.clip).flatten(1)
        found = (f, factors["pose"], factors["background"], run.subject_feature(f), tokens)
    features = {name: value.numpy() for name, value in zip(FEATURES, found, strict=True)}
    return {
        name: {
            factor: by_subject(probe(value, data.labels[factor], data.labels[group]), data.labels["subject"])
            for factor, group in GROUPED_BY.items()
        }
        for name, value in features.items()
    }


def by_subject(right: NDArray[np.bool_], subjects: NDArray[np.int64]) -> Values:
    """Share of each subject's photos (S,) that were read right, of (N,); subjects are numbered from 0."""
    return np.bincount(subjects, weights=right) / np.bincount(subjects)


def stacked(tables: list[Table]) -> Table:
    """The tables of K trainings as one of (K, S)."""
    return {name: {f: np.stack([t[name][f] for t in tables]) for f in GROUPED_BY} for name in FEATURES}


def chances(data: TestSet) -> dict[str, float]:
    """By factor; of the CLIP feature itself, which is what there is most to read from."""
    features = data.clip.numpy()
    return {factor: chance(features, data.labels[factor], data.labels[group]) for factor, group in GROUPED_BY.items()}


def table_text(title: str, table: Table, guessed: Mapping[str, float]) -> str:
    """Means over subjects and trainings, as text."""
    lines = [f"{title:<17}" + "".join(f"{factor:>12}" for factor in GROUPED_BY)]
    lines += [
        f"{name:<17}" + "".join(f"{row[factor].mean():12.3f}" for factor in GROUPED_BY) for name, row in table.items()
    ]
    return "\n".join([*lines, f"{'chance':<17}" + "".join(f"{guessed[factor]:12.3f}" for factor in GROUPED_BY)])

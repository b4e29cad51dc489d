"""Linear probes: what a feature still tells about a factor."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def probe_accuracy(features: NDArray, labels: NDArray[np.int64], folds: int = 4) -> float:
    """Mean accuracy over the folds of logistic regression on standardised ``features`` (N, D), for ``labels`` (N,)."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(probe, features, labels, cv=split).mean())


def chance(labels: NDArray[np.int64]) -> float:
    """Accuracy of always guessing the most frequent label."""
    return float(np.bincount(labels).max() / len(labels))

"""Classes of backgrounds: clusters of CLIP features of what is left of a photo without its subject."""

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

CANDIDATES = (2, 3, 4, 6, 8, 12, 16, 24, 32)
_ENOUGH = 4  # photos that a class must have on average
_NEARLY = 0.9  # of the best silhouette; more classes that are nearly as far apart say more
_SAMPLE = 2000
_LEAST = 0.05  # share of a photo that must be background


def without_subject(crop: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """A crop (H, W, 3) with its subject, and a little around it, in the mean colour of the rest; ``None`` where there
    is hardly any rest.

    In one grey the shape of the subject would show, and would be what the features are about.
    """
    reach = 2 * max(1, round(0.03 * crop.shape[1])) + 1
    covered = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    if (~covered).mean() < _LEAST:
        return None
    painted = crop.copy()
    painted[covered] = np.rint(crop[~covered].mean(axis=0)).astype(np.uint8)
    return painted


def background_classes(
    features: NDArray[np.float32], count: int | None, seed: int
) -> tuple[NDArray[np.int64] | None, str]:
    """The class (N,) of each photo, and in words how it was found; ``None`` where there are too few photos.

    Classes are numbered by size, the largest first.

    Args:
        features: (N, D), one for each photo.
        count: Number of classes; without it as many as are nearly as far apart (silhouette) as the best number.
        seed: Of the clusters' starts.
    """
    if len(features) < 2 * _ENOUGH:
        return None, f"unknown: {len(features)} photos are too few for clusters"
    if count is not None and count > len(features) // 2:
        return None, f"unknown: {len(features)} photos are too few for {count} clusters"
    with threadpool_limits(1):  # sums in another order may end in another class
        sample = np.random.default_rng(seed).permutation(len(features))[:_SAMPLE]
        scores: dict[int, float] = {}
        if count is None:
            for number in (n for n in CANDIDATES if n * _ENOUGH <= len(features)):
                labels = _clusters(features, number, seed)
                if len(set(labels[sample].tolist())) > 1:
                    scores[number] = float(silhouette_score(features[sample], labels[sample]))
            if not scores or max(scores.values()) <= 0:
                return None, "unknown: the backgrounds fall into no clusters"
            count = max(n for n, score in scores.items() if score >= _NEARLY * max(scores.values()))
        labels = _clusters(features, count, seed)
    sizes = np.bincount(labels, minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(count)
    how = f"silhouette {scores[count]:.2f}" if scores else "as told"
    return rank[labels], f"{count} k-means clusters of CLIP features outside of the mask ({how})"


def _clusters(features: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    return KMeans(count, n_init=4, random_state=seed).fit_predict(features.astype(np.float64))

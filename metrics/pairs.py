"""Two subjects in one image: whether two people are there, whether they are the right ones, and whether each is one of
them and not a mixture of both.

All faces of an image are compared with the held-out photos of both subjects. The matching of faces to subjects with the
greatest sum of cosines decides who is meant by whom, so it does not matter who stands where.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metrics.base import PEOPLE, Judge, Metric, Need, Ratio, Rows, sums_by_subject
from metrics.card import JudgeNetwork, MetricCard, PlanSize
from metrics.functional.pairs import Floats, match_faces, pair_confusion, pair_identity
from metrics.judges import JudgedImages

VIEW = "faces"


class _OfPairs(Metric):
    """Scores an image by the cosines (F, 2) of its faces to both subjects.

    NaN where it is to show one subject, or where one of the two has no photo with a face.
    """

    group = "pair"
    judge: Judge = "faces"
    kinds = PEOPLE
    needs: frozenset[Need] = frozenset({"image", "pair"})
    low = 0
    high = 1
    headline = True
    missing = 0.0

    def of_faces(self, similarities: Floats) -> float:
        """The score of one image."""
        raise NotImplementedError

    def card(self, networks: Mapping[str, JudgeNetwork], size: PlanSize) -> MetricCard:
        """Every face is judged, not the largest."""
        card = super().card(networks, size)
        return replace(card, version=card.version.replace("|largest|", "|every-face|"))

    def score(self, judged: JudgedImages) -> Tensor:
        scores = []
        for faces, own, other in zip(judged.seen.judged.every, judged.galleries, judged.beside, strict=True):
            if other is None or not (len(own.usable) and len(other.usable)):
                scores.append(np.nan)
            else:
                photos = np.stack([own.mean(VIEW), other.mean(VIEW)], axis=1)
                scores.append(self.of_faces(faces.astype(np.float64) @ photos))
        return torch.tensor(scores, dtype=torch.float64)

    def by_subject(self, rows: Rows) -> Ratio:
        """Twice the mean of the images that a subject is in, less the mean of all: what it adds to the pairs.

        An image depends on two subjects, and each has half of the influence on it. By the image's own subject alone,
        or by the plain mean of a subject's images, subjects would seem to differ half as much as they do, and intervals
        would be half as wide (the first term of Hoeffding's decomposition).
        """
        known = np.isfinite(rows.values)
        scores = np.tile(rows.values[known], 2)
        subjects = np.concatenate([rows.subject[known], rows.beside[known]])
        sums = sums_by_subject(scores, np.ones(len(scores), bool), subjects, rows.subjects)
        return Ratio(2 * sums.numerator - sums.value * sums.denominator, sums.denominator)


class CountAccuracy(_OfPairs):
    """1 where exactly two faces are found."""

    name = "count_accuracy"
    title = "two people"
    rule = "share-with-two-faces"
    about = "share of images with exactly two faces"

    def of_faces(self, similarities: Floats) -> float:
        return float(len(similarities) == 2)


class PairIdentity(_OfPairs):
    """How alike the two subjects are; a missed one counts 0."""

    name = "pair_identity"
    title = "identity of the pair"
    rule = "cos-mean-held-out|x1|assigned-by-sum|mean-of-two|miss-0"
    about = (
        "mean over both subjects of the cosine of the face that is matched to them to their held-out photos, 0 for a "
        "subject without a face"
    )
    low = -1
    cosine_of = "faces"

    def of_faces(self, similarities: Floats) -> float:
        return pair_identity(similarities, match_faces(similarities))


class PairConfusion(_OfPairs):
    """How often a subject is not there as itself; a missed one counts 1."""

    name = "pair_confusion"
    title = "confusion of the pair"
    rule = "assigned-face-nearer-to-the-other|share-of-two|miss-1"
    about = (
        "share of subjects whose matched face is more like the other subject's held-out photos, or who have no face: "
        "a miss counts as confused"
    )
    higher_is_better = False
    missing = 1.0

    def of_faces(self, similarities: Floats) -> float:
        return pair_confusion(similarities, match_faces(similarities))


METRICS: tuple[Metric, ...] = (CountAccuracy(), PairIdentity(), PairConfusion())

"""Retrieval: whether a generated face finds its own person among all people of the evaluation.

A cosine says how alike two faces are, and a method that gives everybody the same likeable face has a good one wherever
people look alike. Here a face counts only as far as it is more like its own person than like the others.
"""

import numpy as np
import torch
from torch import Tensor

from metrics.base import PEOPLE, Judge, Metric, Need
from metrics.functional.retrieval import average_precision, first_is_right
from metrics.judges import JudgedImages

VIEW = "faces"


class Retrieval(Metric):
    """Scores a face by its cosines to the own photos (K,) and to all other people's (M,); a missed face finds nobody.

    It is not defined for an object, nor where there are no two people.
    """

    group = "identity"
    judge: Judge = "faces"
    kinds = PEOPLE
    needs: frozenset[Need] = frozenset({"image", "gallery", "photos"})
    guards = ("copy_paste",)
    low = 0
    high = 1
    missing = 0.0

    def rank(self, own: np.ndarray, others: np.ndarray, owners: np.ndarray) -> float:
        """The score of one face."""
        raise NotImplementedError

    def score(self, judged: JudgedImages) -> Tensor:
        faces, found = judged.seen.features[VIEW].astype(np.float64), judged.found.tolist()
        scores = []
        strangers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for face, seen, gallery, request in zip(faces, found, judged.galleries, judged.requests, strict=True):
            photos = gallery.held_out[VIEW]
            own = photos[np.any(photos != 0, axis=1)]
            if request.subject not in strangers:
                strangers[request.subject] = gallery.strangers(VIEW)
            others, owners = strangers[request.subject]
            if not gallery.has_face or not len(own) or not len(others):
                scores.append(np.nan)
            else:
                scores.append(self.rank(own @ face, others @ face, owners) if seen else 0.0)
        return torch.tensor(scores, dtype=torch.float64)


class FirstIsRight(Retrieval):
    """Whether the most alike person is the right one."""

    name = "retrieval_top1"
    title = "retrieval, top-1"
    rule = "mean-cos-own-above-every-other-person|miss-0"
    about = "share of images whose face is more like its own person's held-out photos than any other's"

    def rank(self, own: np.ndarray, others: np.ndarray, owners: np.ndarray) -> float:
        return first_is_right(own, others, owners)


class AveragePrecision(Retrieval):
    """How far up the own photos stand among all people's."""

    name = "retrieval_map"
    title = "retrieval, mAP"
    rule = "average-precision-of-own-held-out-among-all|miss-0"
    about = "average precision of the own held-out photos among all people's, by cosine; 0 where no face was found"

    def rank(self, own: np.ndarray, others: np.ndarray, owners: np.ndarray) -> float:
        return average_precision(own, others)


METRICS: tuple[Metric, ...] = (FirstIsRight(), AveragePrecision())

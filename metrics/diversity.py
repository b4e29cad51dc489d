"""How different the samples of one subject and prompt are: mean pairwise distances and the Vendi score."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metrics.base import Judge, Metric, Need, Ratio, Rows, sums_by_subject
from metrics.card import JudgeNetwork, MetricCard, PlanSize
from metrics.functional.diversity import diversity_compute, diversity_update
from metrics.functional.lpips import mean_distance_to_others
from metrics.functional.vendi import vendi_score
from metrics.judges import JudgedImages


class _OfGroups(Metric):
    """A metric of the CLIP features of each group, the samples of one subject and prompt; a mean over groups."""

    group = "diversity"
    judge: Judge = "clip"
    needs: frozenset[Need] = frozenset({"image", "samples"})
    feature = "clip"

    def score(self, judged: JudgedImages) -> Tensor:
        return judged.features(self.feature)

    def group_scores(self, vectors: Tensor, group: Tensor, samples: int) -> Tensor:
        """Scores (G,) of the groups 0..G-1 from vectors (N, D) and the group of each (N,), NaN where not defined."""
        raise NotImplementedError

    def by_subject(self, rows: Rows) -> Ratio:
        _, first, group = np.unique(rows.group, return_index=True, return_inverse=True)
        vectors = torch.from_numpy(np.ascontiguousarray(rows.values))
        scores = self.group_scores(vectors, torch.from_numpy(group), rows.samples).numpy()
        known = np.isfinite(scores)
        return sums_by_subject(np.where(known, scores, 0.0), known, rows.subject[first], rows.subjects)


class Diversity(_OfGroups):
    """Mean pairwise cosine distance; a group of one sample has none."""

    name = "diversity"
    title = "diversity"
    rule = "mean-pairwise-cos-distance|per-subject-and-prompt"
    about = "mean pairwise distance of the samples of one prompt"
    low = 0.0
    high = 2.0
    headline = True

    def group_scores(self, vectors: Tensor, group: Tensor, samples: int) -> Tensor:
        groups = int(group.max()) + 1 if len(group) else 0
        return diversity_compute(*diversity_update(vectors, group, groups))


class Vendi(_OfGroups):
    """Effective number of distinct samples, of complete groups only, as it grows with their number."""

    name = "vendi"
    title = "Vendi"
    rule = "cosine-kernel|q1"
    about = "effective number of distinct images among the samples of one prompt"
    low = 1.0
    source = "Vendi score, arXiv 2210.02410"

    def card(self, networks: Mapping[str, JudgeNetwork], size: PlanSize) -> MetricCard:
        n = size.samples
        card = super().card(networks, size)
        return replace(
            card,
            title=f"{self.title}, n = {n}",
            version=f"{card.version}|n{n}|per-subject-and-prompt",
            about=f"effective number of distinct images among the {n} of one prompt",
            high=float(n),
        )

    def group_scores(self, vectors: Tensor, group: Tensor, samples: int) -> Tensor:
        members = torch.bincount(group)
        order = torch.argsort(group, stable=True)
        complete = members == samples
        scores = torch.full((len(members),), torch.nan, dtype=torch.float64)
        if bool(complete.any()):
            rows = order[complete[group[order]]].view(-1, samples)
            scores[complete] = vendi_score(vectors[rows])
        return scores


class LpipsDiversity(Metric):
    """Mean LPIPS distance of an image to the other samples of its group; the mean over a group is that of its pairs."""

    name = "lpips_diversity"
    title = "LPIPS diversity"
    group = "diversity"
    judge = "lpips"
    rule = "mean-pairwise|per-subject-and-prompt"
    about = "mean pairwise LPIPS distance of the samples of one prompt"
    needs = frozenset({"image", "samples"})
    low = 0.0
    high = None
    source = "LPIPS, arXiv 1801.03924"

    def score(self, judged: JudgedImages) -> Tensor:
        """One group's features are in memory at a time."""
        assert judged.judges.lpips is not None
        groups = [(request.subject, request.prompt_id) for request in judged.requests]
        found = torch.full((len(groups),), torch.nan, dtype=torch.float64)
        for group in dict.fromkeys(groups):
            rows = [i for i, other in enumerate(groups) if other == group]
            found[rows] = mean_distance_to_others(judged.judges.lpips.image_features(judged.images[rows])).cpu()
        return found


METRICS: tuple[Metric, ...] = (Diversity(), Vendi(), LpipsDiversity())

"""From the records of one entry to per-subject sums of every column. The mathematics is that of ``metrics/``."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from contracts.records import Record
from leaderboard.statistics import Ratio
from metrics.functional.diversity import diversity_compute, diversity_update

DIVERSITY_FEATURE = "clip"


def subject_columns(records: Sequence[Record], subjects: Sequence[str]) -> dict[str, Ratio]:
    """Every column that is measured directly, by name.

    ``identity_to_reference`` is the similarity to the photo that the method saw: read beside the held-out one, it
    shows copying.
    """
    by_subject: dict[str, list[Record]] = {subject: [] for subject in subjects}
    for record in records:
        by_subject[record.subject].append(record)
    rows = [_sums(by_subject[subject]) for subject in subjects]
    return {name: Ratio(*(np.array([row[name][i] for row in rows]) for i in (0, 1))) for name in rows[0]}


def _sums(records: Sequence[Record]) -> Mapping[str, tuple[float, float]]:
    """Numerator and denominator of each column for one subject."""
    images = float(len(records))
    found = [r for r in records if r.scores["identity"] is not None]
    identity = sum(_score(r, "identity") for r in found)
    return {
        "detection_rate": (float(len(found)), images),
        "identity_given_detection": (identity, float(len(found))),
        "identity_misses_zero": (identity, images),
        "identity_to_reference": (sum(_score(r, "identity_to_reference") for r in found), float(len(found))),
        "clip_t": (sum(_score(r, "clip_t") for r in records), images),
        "diversity": _diversity(records),
    }


def _score(record: Record, name: str) -> float:
    value = record.scores[name]
    assert value is not None
    return value


def _diversity(records: Sequence[Record]) -> tuple[float, float]:
    """Sum over prompts of the mean pairwise distance, and the number of prompts with two samples or more."""
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(r.prompt_id for r in records))}
    if not prompts:
        return 0.0, 0.0
    features = torch.tensor([r.features[DIVERSITY_FEATURE] for r in records], dtype=torch.float64)
    group = torch.tensor([prompts[r.prompt_id] for r in records])
    distances = diversity_compute(*diversity_update(features, group, len(prompts)))
    return float(distances.nansum()), float(distances.isfinite().sum())

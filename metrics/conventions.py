"""How peers make one number of an entry's scores: which images count, what is clamped, and over what they average.

Each function takes the records (N) of one entry and a score of each (N,), NaN where it has none; ``None`` is returned
where nothing could be measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.records import Record

Scores = NDArray[np.float64]
Convention = Callable[[Sequence[Record], Scores], float | None]


@dataclass(frozen=True)
class PresetColumn:
    """A metric's column in a peer's table: the preset, the column's name there, what it is, and how it is made."""

    preset: str
    column: str
    about: str
    reduce: Convention


def over_images(records: Sequence[Record], scores: Scores) -> float | None:
    """Mean over the images that have a score."""
    return _mean(scores)


def clamped_misses_zero(records: Sequence[Record], scores: Scores) -> float | None:
    """Negatives clamped to 0, a miss counted as 0, mean over images of subjects with a face (FastComposer)."""
    people = np.array([record.has_face for record in records], bool)
    return _mean(np.nan_to_num(scores[people], nan=0.0).clip(min=0.0))


def over_groups(records: Sequence[Record], scores: Scores) -> float | None:
    """Mean over groups (subject and prompt) of the mean over faces; misses and groups at or below 1e-6 are left out
    (Celeb-Basis)."""
    groups: dict[tuple[str, str], list[float]] = {}
    for record, score in zip(records, scores, strict=True):
        if np.isfinite(score):
            groups.setdefault((record.subject, record.prompt_id), []).append(score)
    means = np.array([np.mean(values) for values in groups.values()])
    return _mean(means[means > 1e-6])


def outliers_removed(records: Sequence[Record], scores: Scores) -> float | None:
    """Mean over images with a face after :func:`without_outliers` (MultiID-Bench)."""
    return _mean(without_outliers(scores))


def outliers_removed_one_face(records: Sequence[Record], scores: Scores) -> float | None:
    """The same over images in which exactly one face was found (MultiID-Bench, copy-paste)."""
    alone = np.array([record.details["faces"] == 1 for record in records], bool)
    return _mean(without_outliers(scores[alone]))


def without_outliers(values: Scores) -> Scores:
    """The finite ones of the values (N,) that lie within 1.5 interquartile ranges of the quartiles.

    Half of them at least stay, so the median that MultiID-Bench takes where fewer do is never called for. A quartile
    lies 0, 1/4, 1/2 or 3/4 of the way from one value to the next inner one. Up to 1/2 the outer value is in reach too,
    and with those between the quartiles makes half of all; at 3/4 those between the quartiles alone are half.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return known
    first, third = np.quantile(known, [0.25, 0.75])
    reach = 1.5 * (third - first)
    return known[(known >= first - reach) & (known <= third + reach)]


def _mean(values: Scores) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None

"""Peers' conventions, applied to our records, so that a published table's reading can be set beside ours.

A preset reproduces how a peer counts, clamps, groups and averages. It does not reproduce the peer's networks, images or
prompts, so its numbers compare between entries of one leaderboard and never with a published one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.records import Record

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Preset:
    """One convention: where it comes from, what its columns are, and how they follow from records."""

    about: str
    columns: Mapping[str, str]
    compute: Callable[[Sequence[Record]], Values]


def preset_values(records: Sequence[Record]) -> dict[str, dict[str, float | None]]:
    """{preset: {column: value}} of one entry; ``None`` where nothing could be measured."""
    return {name: dict(preset.compute(records)) for name, preset in PRESETS.items()}


def fastcomposer(records: Sequence[Record]) -> Values:
    """Similarity to the photo that the method saw, negatives clamped to 0, a miss counted as 0, mean over images."""
    people = [record for record in records if record.has_face]
    similarity = np.nan_to_num(_scores(people, "identity_to_reference"), nan=0.0).clip(min=0.0)
    return {"identity": _mean(similarity), "prompt": _mean(_scores(records, "clip_t"))}


def celeb_basis(records: Sequence[Record]) -> Values:
    """Mean over groups (subject and prompt) of the mean over faces; misses and groups at or below 1e-6 are left out."""
    groups: dict[tuple[str, str], list[float]] = {}
    for record, value in zip(records, _scores(records, "identity_to_reference"), strict=True):
        if np.isfinite(value):
            groups.setdefault((record.subject, record.prompt_id), []).append(value)
    means = np.array([np.mean(values) for values in groups.values()])
    return {"identity": _mean(means[means > 1e-6]), "prompt": _mean(_scores(records, "clip_t"))}


def dreambench(records: Sequence[Record]) -> Values:
    """DINO (or another image network), CLIP-I and CLIP-T: similarity to what the method saw, mean over images."""
    return {
        "image_similarity": _mean(_scores(records, "image_similarity_to_reference")),
        "clip_i": _mean(_scores(records, "clip_i_to_reference")),
        "clip_t": _mean(_scores(records, "clip_t")),
    }


def multiid(records: Sequence[Record]) -> Values:
    """Each column over images with a face, after the outliers beyond 1.5 interquartile ranges were taken out.

    The copy-paste score leaves out images whose number of faces is not the number of subjects, which is one.
    """
    alone = [record for record in records if record.details["faces"] == 1]
    return {
        "target_similarity": _mean(without_outliers(_scores(records, "identity"))),
        "reference_similarity": _mean(without_outliers(_scores(records, "identity_to_reference"))),
        "copy_paste": _mean(without_outliers(_scores(alone, "copy_paste"))),
    }


def without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
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


def _scores(records: Sequence[Record], name: str) -> NDArray[np.float64]:
    """A score of each record, NaN where it has none."""
    return np.array([record.scores.get(name) for record in records], np.float64)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


PRESETS: Mapping[str, Preset] = {
    "fastcomposer": Preset(
        "FastComposer (arXiv 2305.10431): against the photo seen, misses 0, negatives clamped to 0",
        {"identity": "similarity to the reference, clamped, misses 0", "prompt": "CLIP-T"},
        fastcomposer,
    ),
    "celeb_basis": Preset(
        "Celeb-Basis (arXiv 2306.00926): against the photo seen, misses left out, mean of the means of prompts",
        {"identity": "similarity to the reference, misses left out", "prompt": "CLIP-T"},
        celeb_basis,
    ),
    "dreambench": Preset(
        "DreamBench (DreamBooth, arXiv 2208.12242): against the photo seen, mean over images",
        {
            "image_similarity": "cosine of image features to the reference, DINO where judges.image_backbone is DINO",
            "clip_i": "CLIP-I to the reference",
            "clip_t": "CLIP-T",
        },
        dreambench,
    ),
    "multiid": Preset(
        "MultiID-Bench (WithAnyone, arXiv 2510.14975): misses left out, outliers beyond 1.5 interquartile ranges too; "
        "copy-paste over images with one face, each the mean over the held-out photos where the peer has one",
        {
            "target_similarity": "similarity to the held-out photos",
            "reference_similarity": "similarity to the reference",
            "copy_paste": "copy-paste score, mean over the held-out photos, images with one face",
        },
        multiid,
    ),
}

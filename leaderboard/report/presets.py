"""Peers' conventions, applied to our records, so that a published table's reading can be set beside ours.

A preset reproduces how a peer counts, clamps, groups and averages. It does not reproduce the peer's networks, images or
prompts, so its numbers compare between entries of one leaderboard and never with a published one. Which metrics a peer
reports, and by which convention, stands with each metric (:attr:`metrics.base.Metric.presets`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.records import Record
from metrics.conventions import PresetColumn
from metrics.registry import METRICS

_ABOUT = {
    "fastcomposer": "FastComposer (arXiv 2305.10431): against the photo seen, misses 0, negatives clamped to 0",
    "celeb_basis": (
        "Celeb-Basis (arXiv 2306.00926): against the photo seen, misses left out, mean of the means of prompts"
    ),
    "dreambench": (
        "DreamBench (DreamBooth, arXiv 2208.12242): against the photo seen, mean over images; DINO where "
        "judges.image_backbone is DINO"
    ),
    "multiid": (
        "MultiID-Bench (WithAnyone, arXiv 2510.14975): misses left out, outliers beyond 1.5 interquartile ranges too; "
        "copy-paste over images with one face, each the mean over the held-out photos where the peer has one"
    ),
}


@dataclass(frozen=True)
class Preset:
    """One convention: where it comes from, and its columns by metric."""

    about: str
    columns: Mapping[str, PresetColumn]


def _columns(preset: str) -> dict[str, PresetColumn]:
    return {metric.name: column for metric in METRICS.values() for column in metric.presets if column.preset == preset}


PRESETS: Mapping[str, Preset] = {name: Preset(about, _columns(name)) for name, about in _ABOUT.items()}


def preset_values(records: Sequence[Record]) -> dict[str, dict[str, float | None]]:
    """{preset: {metric: value}} of one entry; ``None`` where nothing could be measured."""
    return {
        name: {
            metric: column.reduce(records, np.array([record.scores.get(metric) for record in records], np.float64))
            for metric, column in preset.columns.items()
        }
        for name, preset in PRESETS.items()
    }

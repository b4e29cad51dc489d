"""Drift: what an adapter does to images of prompts that name nobody, from the records of their own results folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from contracts.protocol import prompts_hash
from leaderboard.report.scored import Columns, Row, Scored, read_scored, stacked
from leaderboard.results.anchors import FLOOR
from leaderboard.results.folder import Results
from leaderboard.results.lines import read_json
from metrics.base import Ratio, sums_by_subject
from metrics.card import MetricCard
from metrics.clip_t import ClipT
from metrics.kid import KernelDistance

DRIFT, FIT = "drift", "clip_t_nobody"


@dataclass(frozen=True)
class Drift:
    """Columns of drift: their ``cards``, the sums by subject of each row by label, and what to know of them."""

    cards: Mapping[str, MetricCard] = field(default_factory=dict)
    columns: Mapping[str, Columns] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_drift(results: Results) -> Drift:
    """What ``results`` know of drift; nothing where it was not asked for or the base model's images are not scored."""
    nobody = results.nobody
    if not nobody.cards.is_file():
        return Drift()
    scored = read_scored(nobody)
    floor = next((row.trainings[0] for row in scored.rows if row.entry.kind == FLOOR.kind), None)
    if floor is None:
        return Drift()
    tag = prompts_hash(floor.protocol.prompts)[:12]
    columns = {row.label: _columns(row, floor) for row in scored.rows}
    notes = tuple(f"prompts that name nobody: {note}" for note in scored.notes)
    (fit,) = (MetricCard(**card) for card in read_json(nobody.cards) if card["name"] == ClipT.name)
    return Drift(_cards(fit, tag), columns, notes)


def _cards(fit: MetricCard, prompts: str) -> dict[str, MetricCard]:
    common = replace(fit, group="drift", source="Likeness", headline=False, by_class=False)
    found = (
        replace(
            common,
            name=DRIFT,
            title="drift",
            version=f"{DRIFT}=1-cos-to-base|prompts {prompts}|{fit.version}",
            higher_is_better=False,
            low=0.0,
            high=2.0,
            about="how far images of prompts that name nobody are from the base model's of the same noise, 1 less the "
            "cosine of CLIP features",
        ),
        replace(
            common,
            name=FIT,
            title="CLIP-T, nobody",
            version=f"{FIT}|prompts {prompts}|{fit.version}",
            about="cosine of image and prompt, for prompts that name nobody",
        ),
    )
    return {card.name: card for card in found}


def _columns(row: Row, floor: Scored) -> Columns:
    return stacked([{DRIFT: distance(one, floor), FIT: one.columns[ClipT.name]} for one in row.trainings])


def distance(one: Scored, floor: Scored) -> Ratio:
    """Sums by subject of the distances between the images of the same requests."""
    if one.kept and one.kept.drift:
        return one.kept.drift
    ours, theirs = (scored.table(scored.records).rows(KernelDistance.name) for scored in (one, floor))
    cosines = np.sum(ours.values.astype(np.float64) * theirs.values, axis=1)
    distances = np.maximum(0.0, 1 - cosines)  # below 0 by rounding alone
    return sums_by_subject(distances, np.ones(len(distances), bool), ours.subject, ours.subjects)

"""The content of ``leaderboard.json``: a pure function of protocol, cards and records. No model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

import numpy as np

from contracts.errors import LikenessError
from contracts.protocol import prompts_hash
from contracts.records import Interval
from leaderboard.report.comparisons import Pair, head_to_head, units_of
from leaderboard.report.curves import UNKNOWN, curve_intervals, curve_values, sweep
from leaderboard.report.drift import Drift, read_drift
from leaderboard.report.notes import on_cards, on_copying, on_floor, on_no_floor, on_subjects, on_tuning
from leaderboard.report.presets import PRESETS, preset_values
from leaderboard.report.scored import Columns, Row, Scored, ScoredEntries
from leaderboard.report.standing import copied, place
from leaderboard.report.statistics import counts, derived_interval, ratio_interval
from leaderboard.results.anchors import CEILING, FLOOR, METHOD, on_absent, shows_photo
from leaderboard.results.calibration import read_calibration
from leaderboard.results.costs import all_costs
from leaderboard.results.folder import Results
from leaderboard.results.lines import read_json
from leaderboard.results.provenance import costs_of, enrol_seconds, stages_of
from leaderboard.results.trained_photos import unsaid
from metrics.base import Ratio
from metrics.card import MetricCard, versions
from metrics.curve import CURVES, curve_cards
from metrics.derived import DERIVED, all_cards
from metrics.registry import METRICS

DECIMALS = 6
T = TypeVar("T")


def make_leaderboard(results: Results, scored: ScoredEntries) -> dict:
    """The board.

    Raises:
        LikenessError: the ceiling is not complete, nor is the floor of a base model, or the cards are of other metrics.
    """
    drift = read_drift(results)
    cards = board_cards(results, scored, drift)
    floor, ceiling = anchors(results, scored)
    protocol = ceiling.protocol
    rows = sorted((_row(s, floor, ceiling, cards, drift.columns.get(s.label, {})) for s in scored.rows), key=place)
    methods = {s.label: {**s.columns, **drift.columns.get(s.label, {})} for s in scored.rows if s.entry.kind == METHOD}
    copies = {row["label"]: row["copies"] for row in rows}
    incomplete = {row["label"] for row in rows if row["counts"]["missing"]}
    pairs, ties = head_to_head(
        methods,
        cards,
        units_of(floor.columns if floor else {}, ceiling.columns),
        copies,
        incomplete,
        curve_values(scored.rows, floor, CURVES.keys() & cards.keys()),
    )
    return {
        "protocol": {
            **protocol.to_json(),
            "images": len(protocol.requests),
            "prompts_sha256": prompts_hash(protocol.prompts),
            "photos_sha256": results.photos_hash(),
        },
        "metrics": {name: card.to_json() for name, card in cards.items()},
        "entries": rows,
        "ties": ties,
        "comparisons": {name: [pair_json(pair) for pair in found] for name, found in pairs.items()},
        "presets": {
            name: {"about": preset.about, "columns": {metric: c.about for metric, c in preset.columns.items()}}
            for name, preset in PRESETS.items()
        },
        **({"calibration": calibration} if (calibration := read_calibration(results)) else {}),
        "absent": list(on_absent({entry.kind for entry in results.entries()})),
        "notes": [
            *scored.notes,
            *drift.notes,
            *on_subjects(ceiling.records),
            *on_cards(cards.values()),
            *(on_floor(floor.columns, ceiling.columns, floor.entry.label, cards) if floor else [on_no_floor(cards)]),
            *on_copying(rows, cards, protocol.copy_limit),
            *on_tuning(
                {
                    row.label: row.entry.manifest
                    for row in scored.rows
                    if row.entry.manifest and not (row.entry.images or row.entry.lora)
                }
            ),
        ],
    }


def anchors(results: Results, scored: ScoredEntries) -> tuple[Row | None, Row]:
    """Floor and ceiling. A protocol without a base model may have no floor.

    Raises:
        LikenessError: one of them is not complete; the notes say why.
    """
    floor, ceiling = (
        next((s for s in scored.rows if s.entry.kind == kind), None) for kind in (FLOOR.kind, CEILING.kind)
    )
    if ceiling is None or (floor is None and ceiling.protocol.backbone is not None):
        raise LikenessError("; ".join(scored.notes) or f"{results.root} holds no results: run `--stage generate` first")
    return floor, ceiling


def board_cards(results: Results, scored: ScoredEntries, drift: Drift) -> dict[str, MetricCard]:
    """The card of every column of the board: of :func:`read_cards`, of curves where some entry has one, and of drift.

    Raises as :func:`read_cards` does.
    """
    cards = read_cards(results)
    curves = curve_cards(cards) if any(row.points for row in scored.rows) else {}
    return {**cards, **curves, **drift.cards}


def read_cards(results: Results) -> dict[str, MetricCard]:
    """The card of every column by name: first what compares with floor and ceiling, then what was measured.

    Raises:
        LikenessError: the folder holds no results, or the cards are of other metrics than its protocol.
    """
    planned = results.protocol().metrics
    try:
        measured = {card["name"]: MetricCard(**card) for card in read_json(results.cards)}
    except (KeyError, TypeError) as error:
        raise LikenessError(f"{results.cards} was written by another version of Likeness: {error}") from error
    if unknown := sorted(measured.keys() - METRICS.keys()):
        raise LikenessError(
            f"{results.cards} was written by another version of Likeness: there is no metric {unknown[0]} here"
        )
    described = versions(measured.values())
    if odd := sorted(n for n in {*planned, *described} if planned.get(n) != described.get(n)):
        raise LikenessError(
            f"{results.cards} does not describe what {results.root / 'protocol.json'} measures: "
            f"other versions of {', '.join(odd)}; restore it, or take another --output"
        )
    return all_cards(measured)


def _row(row: Row, floor: Row | None, ceiling: Row, cards: Mapping[str, MetricCard], further: Columns) -> dict:
    entry, protocol = row.entry, row.protocol
    overall = row.intervals() | _derived(row.columns, floor.columns if floor else None, ceiling.columns)
    overall |= curve_intervals(row, floor, CURVES.keys() & cards.keys())
    overall |= {name: ratio_interval(column) for name, column in further.items()}
    by_class = {
        name: {n: ratio_interval(column) for n, column in columns.items()}
        | _derived(columns, floor.by_class[name] if floor else None, ceiling.by_class[name])
        for name, columns in row.by_class.items()
    }
    return {
        "label": entry.label,
        "kind": entry.kind,
        "weights": entry.weights,
        "settings": entry.settings,
        "own_judges": dict(entry.own_judges),
        **({"unsaid": unsaid(entry.manifest, row.trainings[0].folder.entry_file)} if entry.lora else {}),
        "copies": copied(overall, cards.values(), protocol.copy_limit) if entry.kind == METHOD else [],
        "images": entry.images and entry.images.to_json(),
        "records_sha256": row.records_hash(),
        "counts": counts(row.records),
        "metrics": {name: _rounded(overall.get(name, UNKNOWN)) for name in cards},
        "by_class": {
            prompt_class: {name: _rounded(intervals[name]) for name in cards if name in intervals}
            for prompt_class, intervals in by_class.items()
        },
        "by_subject": {
            subject: {name: _of_subject(column.pooled, i) for name, column in {**row.columns, **further}.items()}
            for i, subject in enumerate(protocol.subjects)
        },
        "costs": _mean_of([_costs(one) for one in row.trainings]),
        "presets": _presets(row),
        "stages": stages_of(row.trainings[0].folder),
        "manifest": entry.manifest,
        **({"sweep": _sweep(row, floor, ceiling)} if row.points else {}),
        **({"trainings": [_training(one) for one in row.trainings]} if len(row.trainings) > 1 else {}),
    }


def _sweep(row: Row, floor: Row | None, ceiling: Row) -> dict:
    found = sweep(row, floor, ceiling)
    for point in found["points"]:
        point["metrics"] = {name: _rounded(interval) for name, interval in point["metrics"].items()}
    return found


def _costs(one: Scored) -> dict[str, float | int | None]:
    return {
        **all_costs(
            one.entry.manifest, [] if shows_photo(one.entry.kind) else one.folder.timings(), costs_of(one.folder)
        ),
        "enrol_seconds": enrol_seconds(one.folder, one.entry),
    }


def _presets(row: Row) -> dict[str, dict[str, float | None]]:
    found = [preset_values(one.records) for one in row.trainings]
    return {
        preset: {name: _round(value) for name, value in _mean_of([values[preset] for values in found]).items()}
        for preset in PRESETS
    }


def _mean_of(trainings: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Numbers by name: their mean over the trainings that know them."""
    if len(trainings) == 1:
        return dict(trainings[0])
    known = {name: [v for one in trainings if (v := one[name]) is not None] for name in trainings[0]}
    return {
        name: values[0] if len(set(values)) == 1 else float(np.mean(values)) if values else None
        for name, values in known.items()
    }


def _training(one: Scored) -> dict:
    """One of several trainings: which weights, and its value in every column of images."""
    return {
        "folder": one.entry.label,
        "weights": one.entry.weights,
        "records_sha256": one.folder.records_hash(),
        "metrics": {
            name: _round(column.value) if column.denominator.any() else None for name, column in one.columns.items()
        },
        "manifest": one.entry.manifest,
    }


def _derived(columns: Columns, floor: Columns | None, ceiling: Columns) -> dict[str, Interval]:
    """The derived columns whose base is measured; without a floor nothing is known of them."""
    return {
        name: Interval(None, None, None, 0)
        if floor is None
        else derived_interval(metric, columns[metric.base], floor[metric.base], ceiling[metric.base])
        for name, metric in DERIVED.items()
        if metric.base in columns
    }


def _of_subject(column: Ratio, i: int) -> float | None:
    return round(float(column.numerator[i] / column.denominator[i]), DECIMALS) if column.denominator[i] else None


def pair_json(pair: Pair) -> dict:
    """A head-to-head test as the board holds it."""
    found = {"a": pair.a, "b": pair.b, **asdict(pair.result), "p_holm": pair.p_holm}
    return {name: _digits(value) if name in ("p", "p_holm") else _round(value) for name, value in found.items()}


def _digits(p: float | None) -> float | None:
    """p-values are read on a logarithmic scale: they keep digits, not decimals."""
    return None if p is None else float(f"{p:.4g}")


def _rounded(interval: Interval) -> dict:
    return {name: _round(value) for name, value in asdict(interval).items()}


def _round(value: T) -> T | float:
    return round(value, DECIMALS) if isinstance(value, float) else value

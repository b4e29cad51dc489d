"""The content of ``leaderboard.json``: a pure function of protocol, cards and records. No model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.protocol import Protocol, prompts_hash
from contracts.records import Interval, Record
from leaderboard.report.comparisons import Pair, head_to_head, units_of
from leaderboard.report.notes import on_cards, on_copying, on_floor, on_no_floor, on_subjects, on_tuning
from leaderboard.report.presets import PRESETS, preset_values
from leaderboard.report.standing import copied, place
from leaderboard.report.statistics import RecordTable, counts, derived_interval, ratio_interval
from leaderboard.results.anchors import CEILING, FLOOR, METHOD, on_absent, shows_photo
from leaderboard.results.costs import all_costs
from leaderboard.results.folder import Entry, EntryFolder, Results
from leaderboard.results.lines import read_json
from leaderboard.results.provenance import check_precision, enrol_seconds, precisions, stages_of
from metrics.base import Ratio
from metrics.card import MetricCard, versions
from metrics.derived import DERIVED, all_cards
from metrics.gallery import load_photo_features
from metrics.registry import METRICS

DECIMALS = 6
Columns = Mapping[str, Ratio]
T = TypeVar("T")


@dataclass(frozen=True)
class Scored:
    """An entry with a record for every request, in the order of the plan."""

    entry: Entry
    folder: EntryFolder
    protocol: Protocol
    records: Sequence[Record]
    photos: NDArray[np.float32] | None
    """CLIP features (M, D) of the held-out photos; ``None`` for an anchor that shows them."""

    def table(self, records: Sequence[Record]) -> RecordTable:
        """Some of the records as rows of metrics."""
        return RecordTable(records, tuple(self.protocol.subjects), self.protocol.samples)

    @cached_property
    def by_class(self) -> dict[str, Columns]:
        """Sums by subject, for each class of prompts."""
        classes: dict[str, list[Record]] = {prompt.prompt_class: [] for prompt in self.protocol.prompts}
        for record in self.records:
            classes[record.prompt_class].append(record)
        return {name: self.table(records).columns(self.protocol.metrics) for name, records in classes.items()}

    @cached_property
    def columns(self) -> Columns:
        """Sums by subject over all records: no image and no prompt is in two classes."""
        classes = list(self.by_class.values())
        parts = ("numerator", "denominator")
        return {
            name: Ratio(*(np.sum([getattr(columns[name], part) for columns in classes], axis=0) for part in parts))
            for name in classes[0]
        }

    def intervals(self) -> dict[str, Interval]:
        """The value and interval of every measured metric."""
        table = self.table(self.records)
        whole = {name: table.whole(name, self.photos) for name in self.protocol.metrics if name not in self.columns}
        return whole | {name: ratio_interval(column) for name, column in self.columns.items()}


@dataclass(frozen=True)
class ScoredEntries:
    """What the records of a results folder say, read once for everything that is made of it."""

    entries: Sequence[Scored]
    """The complete entries, by label."""
    notes: Sequence[str]
    """For the reader of the table: who was left out because images are not scored, who is there twice."""

    @cached_property
    def records(self) -> dict[str, dict[str, Record]]:
        """By label and request."""
        return {s.entry.label: {record.request_id: record for record in s.records} for s in self.entries}


def make_leaderboard(results: Results, scored: ScoredEntries) -> dict:
    """The board.

    Raises:
        LikenessError: the ceiling is not complete, nor is the floor of a base model, or the cards are of other metrics.
    """
    cards = read_cards(results)
    floor, ceiling = anchors(results, scored)
    protocol = ceiling.protocol
    rows = sorted((_row(s, floor, ceiling, cards) for s in scored.entries), key=place)
    methods = {s.entry.label: s.columns for s in scored.entries if s.entry.kind == METHOD}
    copies = {row["label"]: row["copies"] for row in rows}
    incomplete = {row["label"] for row in rows if row["counts"]["missing"]}
    pairs, ties = head_to_head(
        methods, cards, units_of(floor.columns if floor else {}, ceiling.columns), copies, incomplete
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
        "absent": list(on_absent({entry.kind for entry in results.entries()})),
        "notes": [
            *scored.notes,
            *on_subjects(ceiling.records),
            *on_cards(cards.values()),
            *(on_floor(floor.columns, ceiling.columns, floor.entry.label, cards) if floor else [on_no_floor(cards)]),
            *on_copying(rows, cards, protocol.copy_limit),
            *on_tuning(
                {s.entry.label: s.entry.manifest for s in scored.entries if s.entry.manifest and not s.entry.images}
            ),
        ],
    }


def anchors(results: Results, scored: ScoredEntries) -> tuple[Scored | None, Scored]:
    """Floor and ceiling. A protocol without a base model may have no floor.

    Raises:
        LikenessError: one of them is not complete; the notes say why.
    """
    floor, ceiling = (
        next((s for s in scored.entries if s.entry.kind == kind), None) for kind in (FLOOR.kind, CEILING.kind)
    )
    if ceiling is None or (floor is None and ceiling.protocol.backbone is not None):
        raise LikenessError("; ".join(scored.notes) or f"{results.root} holds no results: run `--stage generate` first")
    return floor, ceiling


def read_scored(results: Results) -> ScoredEntries:
    """Read every entry's records.

    Raises:
        LikenessError: an entry was generated under another protocol or in other numbers than another, or scored by
            other metrics than the protocol's.
    """
    protocol, photos = results.protocol(), load_photo_features(results.galleries)
    scored: list[Scored] = []
    notes = []
    for entry in results.entries():
        results.check_entry(entry)
        folder = results.entry(entry.label)
        records = folder.records()
        done = [records[request.id] for request in protocol.requests if request.id in records]
        if len(done) < len(protocol.requests):
            notes.append(f"left out {entry.label}: {len(done)} of {len(protocol.requests)} images are scored")
            continue
        if any(record.metric_versions != protocol.metrics for record in done):
            raise LikenessError(f"{entry.label} was scored by other metrics: run `--stage score` again")
        drawn_by = {(s.entry.weights, s.entry.settings): s.entry.label for s in scored if s.entry.weights}
        twin = drawn_by.get((entry.weights, entry.settings))
        if twin:
            what = "images" if entry.images else "weights"
            notes.append(f"{entry.label} and {twin} are the same {what} under two labels")
        if entry.images:
            notes += entry.images.notes(entry.label, len(protocol.requests), protocol.resolution)
        scored.append(Scored(entry, folder, protocol, done, None if shows_photo(entry.kind) else photos))
    made_in = precisions(results)
    check_precision({s.entry.label: made_in[s.entry.label] for s in scored if s.entry.label in made_in})
    return ScoredEntries(scored, notes)


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


def _row(scored: Scored, floor: Scored | None, ceiling: Scored, cards: Mapping[str, MetricCard]) -> dict:
    entry, protocol = scored.entry, scored.protocol
    overall = scored.intervals() | _derived(scored.columns, floor.columns if floor else None, ceiling.columns)
    by_class = {
        name: {n: ratio_interval(column) for n, column in columns.items()}
        | _derived(columns, floor.by_class[name] if floor else None, ceiling.by_class[name])
        for name, columns in scored.by_class.items()
    }
    return {
        "label": entry.label,
        "kind": entry.kind,
        "weights": entry.weights,
        "settings": entry.settings,
        "own_judges": dict(entry.own_judges),
        "copies": copied(overall, cards.values(), protocol.copy_limit) if entry.kind == METHOD else [],
        "images": entry.images and entry.images.to_json(),
        "records_sha256": scored.folder.records_hash(),
        "counts": counts(scored.records),
        "metrics": {name: _rounded(overall[name]) for name in cards},
        "by_class": {
            prompt_class: {name: _rounded(intervals[name]) for name in cards if name in intervals}
            for prompt_class, intervals in by_class.items()
        },
        "by_subject": {
            subject: {name: _of_subject(column, i) for name, column in scored.columns.items()}
            for i, subject in enumerate(protocol.subjects)
        },
        "costs": {
            **all_costs(entry.manifest, [] if shows_photo(entry.kind) else scored.folder.timings()),
            "enrol_seconds": enrol_seconds(scored.folder, entry),
        },
        "presets": {
            preset: {name: _round(value) for name, value in values.items()}
            for preset, values in preset_values(scored.records).items()
        },
        "stages": stages_of(scored.folder),
        "manifest": entry.manifest,
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

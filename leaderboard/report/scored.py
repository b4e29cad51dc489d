"""What the records of a results folder say, read once: the rows of the board, each with its trainings."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from contracts.records import Interval, Record
from leaderboard.report.statistics import RecordTable, ratio_interval
from leaderboard.results.anchors import shows_photo
from leaderboard.results.entry import Entry
from leaderboard.results.folder import EntryFolder, Results
from leaderboard.results.names import label_of, training_of
from leaderboard.results.packed import KeptEntry
from leaderboard.results.provenance import check_precision, precisions
from leaderboard.results.trained_photos import notes_on_photos_seen, notes_on_unsaid, trained_on, unsaid
from metrics.base import Ratio
from metrics.gallery import load_photo_features

Columns = Mapping[str, Ratio]


@dataclass(frozen=True)
class Scored:
    """An entry with a record for every request, in the order of the plan."""

    entry: Entry
    folder: EntryFolder
    protocol: Protocol
    records: Sequence[Record]
    photos: NDArray[np.float32] | None
    """CLIP features (M, D) of the held-out photos; ``None`` for an anchor that shows them."""
    kept: KeptEntry | None = None
    """What stands for the features of the records, where results are packed."""

    def table(self, records: Sequence[Record]) -> RecordTable:
        """Some of the records as rows of metrics."""
        return RecordTable(records, tuple(self.protocol.subjects), self.protocol.samples)

    @cached_property
    def by_class(self) -> dict[str, Columns]:
        """Sums by subject, for each class of prompts."""
        classes: dict[str, list[Record]] = {prompt.prompt_class: [] for prompt in self.protocol.prompts}
        for record in self.records:
            classes[record.prompt_class].append(record)
        metrics, kept = self.protocol.metrics, self.kept
        return {
            name: self.table(records).columns(metrics, kept.by_class.get(name, {}) if kept else None)
            for name, records in classes.items()
        }

    @cached_property
    def columns(self) -> Columns:
        """Sums by subject over all records: no image and no prompt is in two classes."""
        classes = list(self.by_class.values())
        parts = ("numerator", "denominator")
        return {
            name: Ratio(*(np.sum([getattr(columns[name], part) for columns in classes], axis=0) for part in parts))
            for name in classes[0]
        }

    def whole(self) -> dict[str, Interval]:
        """The value of every measured metric that has none by subject."""
        if self.kept:
            return dict(self.kept.whole)
        table = self.table(self.records)
        return {name: table.whole(name, self.photos) for name in self.protocol.metrics if name not in self.columns}


@dataclass(frozen=True)
class Row:
    """A row of the board: an entry that was trained once, or several times. An anchor counts as one training."""

    trainings: Sequence[Scored]
    """The first has the row's label, and its images are those that are shown."""
    points: Mapping[float, "Row"] = field(default_factory=dict)
    """The points of its sweep by value, in ascending order, itself among them; empty without a sweep."""

    @property
    def entry(self) -> Entry:
        return self.trainings[0].entry

    @property
    def label(self) -> str:
        return self.entry.label

    @property
    def protocol(self) -> Protocol:
        return self.trainings[0].protocol

    @property
    def records(self) -> list[Record]:
        """Those of all trainings, one training after the other."""
        return [record for one in self.trainings for record in one.records]

    @cached_property
    def by_class(self) -> dict[str, Columns]:
        """Sums by subject, for each class of prompts; of K trainings (K, S)."""
        first = self.trainings[0].by_class
        return {name: stacked([one.by_class[name] for one in self.trainings]) for name in first}

    @cached_property
    def columns(self) -> Columns:
        """Sums by subject over all records; of K trainings (K, S)."""
        return stacked([one.columns for one in self.trainings])

    def intervals(self) -> dict[str, Interval]:
        """The value and interval of every measured metric. One of a whole entry has its mean over the trainings."""
        found = [one.whole() for one in self.trainings]
        whole = {name: _mean([one[name] for one in found]) for name in found[0]}
        return whole | {name: ratio_interval(column) for name, column in self.columns.items()}

    def records_hash(self) -> str:
        """SHA-256 over the records as they lie on the disk; of several trainings over that of each."""
        hashes = [one.folder.records_hash() for one in self.trainings]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def stacked(trainings: Sequence[Columns]) -> Columns:
    """The same columns of K trainings as one, with sums (K, S); of one training they stay as they are."""
    if len(trainings) == 1:
        return trainings[0]
    parts = ("numerator", "denominator")
    return {
        name: Ratio(*(np.stack([getattr(columns[name], part) for columns in trainings]) for part in parts))
        for name in trainings[0]
    }


def _mean(found: Sequence[Interval]) -> Interval:
    values = [one.value for one in found if one.value is not None]
    return found[0] if len(found) == 1 or not values else Interval(float(np.mean(values)), None, None, found[0].n)


@dataclass(frozen=True)
class ScoredEntries:
    """What the records of a results folder say."""

    rows: Sequence[Row]
    """The complete rows, by label."""
    notes: Sequence[str]
    """For the reader of the table: who was left out because images are not scored, who is there twice."""

    @property
    def records(self) -> dict[str, dict[str, Record]]:
        """Those of the images that are shown, by label and request."""
        return {row.label: {record.request_id: record for record in row.trainings[0].records} for row in self.rows}


def read_scored(results: Results) -> ScoredEntries:
    """Read every entry's records. Raises as :func:`read_entries` does."""
    scored, notes = read_entries(results)
    return ScoredEntries(_rows(scored), notes)


def read_entries(results: Results) -> tuple[list[Scored], list[str]]:
    """Every complete entry, by label, and what :attr:`ScoredEntries.notes` say.

    Raises:
        LikenessError: an entry was generated under another protocol or in other numbers than another, or scored by
            other metrics than the protocol's.
    """
    protocol = results.protocol()
    photos = None if results.packed else load_photo_features(results.galleries)
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
        if training_of(entry.label) == entry.label:  # and the points of its sweep learnt from the same photos
            notes += notes_on_unsaid(entry.label, unsaid(entry.manifest, folder.entry_file), protocol)
            notes += notes_on_photos_seen(entry.label, trained_on(entry.manifest, folder.entry_file), protocol)
        if entry.images:
            notes += entry.images.notes(entry.label, len(protocol.requests), protocol.resolution)
        scored.append(Scored(entry, folder, protocol, done, None if shows_photo(entry.kind) else photos, folder.kept))
    made_in = precisions(results)
    check_precision({s.entry.label: made_in[s.entry.label] for s in scored if s.entry.label in made_in})
    return scored, notes


def _rows(scored: Sequence[Scored]) -> list[Row]:
    """The rows. A row whose first training is not complete has no images to show, and is left out with the others."""
    rows: dict[str, list[Scored]] = {}
    for one in sorted(scored, key=lambda one: (len(training_of(one.entry.label)), one.entry.label)):
        rows.setdefault(label_of(one.entry.label), []).append(one)
    return [row for label, found in sorted(rows.items()) for row in _row(label, found)]


def _row(label: str, found: Sequence[Scored]) -> list[Row]:
    """The row of all that is under a label; a point of a sweep counts where every training has it."""
    trainings = [one for one in found if one.entry.label == training_of(one.entry.label)]
    if not trainings or trainings[0].entry.label != label:
        return []
    points: dict[float, list[Scored]] = {}
    for one in found:
        if one.entry.knob:
            points.setdefault(one.entry.knob["value"], []).append(one)
    whole = {value: Row(points[value]) for value in sorted(points) if len(points[value]) == len(trainings)}
    return [Row(trainings, whole if len(whole) > 1 else {})]

"""What claims compare on one board of evaluate.py: columns by training and subject, and their floor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from claims.measurements import Values
from contracts.errors import LikenessError
from leaderboard.report.board import anchors
from leaderboard.report.curves import curve_values
from leaderboard.report.drift import Drift, read_drift
from leaderboard.report.scored import Row, ScoredEntries, read_scored
from leaderboard.results.folder import Results
from leaderboard.results.provenance import enrol_seconds
from metrics.base import Ratio
from metrics.curve import SHARE

IDENTITY, PROMPT = "identity_misses_zero", "clip_t"
MATCHED = f"identity_at_prompt_{SHARE:g}"


@dataclass(frozen=True)
class Board:
    """The rows that claims are about, by the name that the claims have for them, with what is compared."""

    results: Results
    rows: dict[str, Row]
    floor: Row
    drift: Drift

    @classmethod
    def of(cls, results: Results, names: Sequence[str], given: Sequence[str] = ()) -> "Board":
        """The entries that are called ``names``; ``given`` holds ``NAME=LABEL`` for one that is called otherwise.

        Raises:
            LikenessError: a word of ``given`` has another form or names no entry, or the results are not complete or
                have no floor.
        """
        labels = dict(word.split("=", 1) for word in given if "=" in word)
        if odd := [word for word in given if word.partition("=")[0] not in names or "=" not in word]:
            raise LikenessError(f"--label {odd[0]!r}: give NAME=LABEL with a name among {', '.join(names)}")
        scored: ScoredEntries = read_scored(results)
        floor, _ = anchors(results, scored)
        if floor is None:
            raise LikenessError(f"--results {str(results.root)!r} has no floor, the base model without the subject")
        found = {row.label: row for row in scored.rows}
        if unknown := [label for label in labels.values() if label not in found]:
            raise LikenessError(f"--label: {unknown[0]!r} is no entry of {results.root}: {', '.join(found)}")
        rows = {name: found[label] for name in names if (label := labels.get(name, name)) in found}
        return cls(results, rows, floor, read_drift(results))

    def by_subject(self, name: str, metric: str) -> Values:
        """Values (K, S) of each training and subject, NaN where there is none."""
        return values_of(self.rows[name].columns[metric])

    def prompt_kept(self, name: str) -> Values:
        """CLIP-T of each training and subject over the base model's."""
        return self.by_subject(name, PROMPT) / self.floor.columns[PROMPT].value

    def matched(self, name: str) -> Values | None:
        """Identity where 95 % of the prompt is kept (K, S); ``None`` where no sweep reaches that."""
        row = self.rows[name]
        values = curve_values([row], self.floor, [MATCHED])[MATCHED].get(row.label)
        return values if values is not None and np.isfinite(values).any() else None

    def enrol_seconds(self, name: str) -> float | None:
        """Seconds to enrol a subject, of the first training."""
        first = self.rows[name].trainings[0]
        return enrol_seconds(first.folder, first.entry)


def values_of(column: Ratio) -> Values:
    """Values (K, S) of each training and subject, NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.atleast_2d(column.numerator) / np.atleast_2d(column.denominator)

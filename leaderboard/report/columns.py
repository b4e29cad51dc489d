"""From the records of one entry to the rows that metrics take. All arithmetic is that of ``metrics/``."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.records import Interval, Record
from leaderboard.results.legacy import TRIO, from_old
from leaderboard.results.vectors import decode_vectors
from metrics.base import Ratio, Rows
from metrics.registry import METRICS


class RecordTable:
    """The records of one entry, or of a part of it such as one class of prompts.

    Args:
        records: In the order of the plan.
        subjects: All subjects of the plan; one without records has sums of 0.
        samples: Images per subject and prompt.
    """

    def __init__(self, records: Sequence[Record], subjects: Sequence[str], samples: int) -> None:
        order = {subject: i for i, subject in enumerate(subjects)}
        groups: dict[tuple[str, str], int] = {}
        for record in records:
            groups.setdefault((record.subject, record.prompt_id), len(groups))
        self.records = records
        self._subjects = len(subjects)
        self._samples = samples
        self._subject = np.array([order[record.subject] for record in records], np.int64)
        self._group = np.array([groups[record.subject, record.prompt_id] for record in records], np.int64)
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def rows(self, name: str) -> Rows:
        """The rows of the metric ``name``.

        Raises:
            LikenessError: a record lacks the metric's score or feature.
        """
        feature = METRICS[name].feature
        values = self._features(feature) if feature else self._scores(name)
        return Rows(values, self._subject, self._group, self._subjects, self._samples)

    def columns(self, names: Collection[str]) -> dict[str, Ratio]:
        """The metrics among ``names`` that have a value by subject."""
        found = {name: METRICS[name].by_subject(self.rows(name)) for name in names}
        return {name: column for name, column in found.items() if column is not None}

    def whole(self, name: str, photos: NDArray[np.float32] | None) -> Interval:
        """A metric of the whole entry, without an interval.

        Args:
            photos: Features (M, D) of the held-out photos; ``None`` for the ceiling, whose images are such photos.
        """
        value = METRICS[name].value(self.rows(name), photos)
        if not np.isfinite(value):
            subjects = 0 if photos is None or len(self.records) < 2 else len(np.unique(self._subject))
            return Interval(None, None, None, subjects)
        return Interval(value, None, None, len(np.unique(self._subject)))

    def _scores(self, name: str) -> NDArray[np.float64]:
        """The score of every record, NaN where it is ``None``."""
        key = "identity" if name in TRIO else name
        lacking = next((record.request_id for record in self.records if key not in record.scores), None)
        if lacking is not None:
            raise LikenessError(f"the record of {lacking} has no score {name}: run `--stage score` again")
        return from_old(list(self.records), name)

    def _features(self, name: str) -> NDArray[np.float32]:
        if name not in self._vectors:
            try:
                self._vectors[name] = decode_vectors([record.features[name] for record in self.records])
            except (KeyError, TypeError, ValueError) as error:
                raise LikenessError(f"a record has no readable feature {name}: run `--stage score` again") from error
        return self._vectors[name]


def counts(records: Sequence[Record]) -> dict[str, int]:
    """What went wrong, or might have, in images: a face that is missing, several, one colour, a prompt cut short."""
    return {
        "images": len(records),
        "without_face": sum(record.face_missed for record in records),
        "several_faces": sum(int(record.details["faces"] or 0) > 1 for record in records),
        "blank": sum(bool(record.details["blank"]) for record in records),
        "prompts_cut": sum(int(record.details["tokens_cut"] or 0) > 0 for record in records),
    }

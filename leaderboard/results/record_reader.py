"""From a line of ``records.jsonl`` to a record that nothing behind it needs to check again."""

from collections.abc import Iterable, Mapping
from dataclasses import fields

import numpy as np

from contracts.records import Record, Request
from leaderboard.results.vectors import decode_vectors

_FIELDS = {field.name for field in fields(Record)}
_PLANNED = ("subject", "prompt_id", "prompt_class", "sample")
_TEXT: frozenset[type] = frozenset({str})
_SCORE: frozenset[type] = frozenset({float, int, type(None)})
_COUNTS = ("faces", "tokens_cut")


class RecordReader:
    """Reads the records of one entry of the plan ``requests``."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._planned = {request.id: request for request in requests}
        self._widths: dict[str, int] = {}

    def read(self, row: Mapping) -> Record:
        """The record of a JSON line.

        Raises:
            ValueError: what is wrong with it, in a few words.
        """
        if row.keys() != _FIELDS:
            raise ValueError("the record is of another version of Likeness")
        self._check_request(row)
        for name in ("metric_versions", "scores", "details", "features"):
            if not isinstance(row[name], dict):
                raise ValueError(f"{name} is {row[name]!r}")
        _check_types("the version of {} is {!r}", row["metric_versions"], _TEXT)
        _check_types("the score {} is {!r}, no number", row["scores"], _SCORE)
        self._check_details(row["details"])
        for name, text in row["features"].items():
            self._check_feature(name, text)
        return Record(**row)

    def _check_request(self, row: Mapping) -> None:
        request = self._planned.get(row["request_id"]) if isinstance(row["request_id"], str) else None
        if request is None:
            raise ValueError(f"request {row['request_id']!r} is not in the plan")
        for name in _PLANNED:
            planned = getattr(request, name)
            if type(row[name]) is not type(planned) or row[name] != planned:
                raise ValueError(f"{name} is {row[name]!r}, request {request.id} has {planned!r}")
        if not isinstance(row["image_sha256"], str):
            raise ValueError(f"image_sha256 is {row['image_sha256']!r}")

    def _check_details(self, details: Mapping) -> None:
        for name in _COUNTS:
            if type(details.get(name)) is not int or details[name] < 0:
                raise ValueError(f"details.{name} is {details.get(name)!r}, no count")
        if not isinstance(details.get("blank"), bool):
            raise ValueError(f"details.blank is {details.get('blank')!r}, neither true nor false")

    def _check_feature(self, name: str, text: object) -> None:
        try:
            vector = decode_vectors([text])[0]  # type: ignore[list-item]
        except (TypeError, ValueError):
            raise ValueError(f"the feature {name} is not readable") from None
        if not np.isfinite(vector).all():
            raise ValueError(f"the feature {name} holds NaN or an infinity")
        if len(vector) != self._widths.setdefault(name, len(vector)):
            raise ValueError(f"the feature {name} has {len(vector)} numbers, in other records {self._widths[name]}")


def _check_types(message: str, values: Mapping, types: frozenset[type]) -> None:
    """Raise ``ValueError`` with the message of the first value of another type; bool is not int."""
    if not types.issuperset(map(type, values.values())):
        raise ValueError(next(message.format(name, v) for name, v in values.items() if type(v) not in types))

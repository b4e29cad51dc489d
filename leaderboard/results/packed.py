"""What stands in a folder of packed results in place of what was left out of it.

Images, galleries and feature vectors are nearly all of a results folder. A report takes little from them: small
pictures for its contact sheets, hashes of records and photos, and the sums by subject of columns that are made from
features. ``packed.json`` holds the hashes and the sums; a small picture lies where its image lay, as ``.webp``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from contracts.errors import LikenessError
from contracts.files import read_file
from contracts.protocol import Protocol
from contracts.records import Interval
from leaderboard.results.lines import read_json
from metrics.base import Ratio

NAME = "packed.json"
_VERSION = 1


@dataclass(frozen=True)
class KeptEntry:
    """What the report takes from the records of an entry with their features."""

    records_sha256: str
    """Hash of the records as they lay in the folder that was packed."""
    by_class: Mapping[str, Mapping[str, Ratio]] = field(default_factory=dict)
    """Sums by subject of the columns that are made from features, by class of prompts and metric."""
    whole: Mapping[str, Interval] = field(default_factory=dict)
    """The columns that have no value by subject."""
    drift: Ratio | None = None
    """Sums by subject of the distances to the base model's images, where the prompts name nobody."""

    def to_json(self) -> dict:
        sums = {name: {n: _sums(column) for n, column in columns.items()} for name, columns in self.by_class.items()}
        return {
            "records_sha256": self.records_sha256,
            "by_class": sums,
            "whole": {name: asdict(interval) for name, interval in self.whole.items()},
            **({"drift": _sums(self.drift)} if self.drift else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping, protocol: Protocol) -> "KeptEntry":
        """The inverse of :meth:`to_json`; other data raises what :func:`read_packed` makes a line of."""
        subjects, classes = len(protocol.subjects), {prompt.prompt_class for prompt in protocol.prompts}
        sums = {
            name: {n: _ratio(kept, subjects) for n, kept in columns.items()}
            for name, columns in data["by_class"].items()
        }
        if sums and (sums.keys() != classes or len({frozenset(columns) for columns in sums.values()}) > 1):
            raise ValueError("sums are not of the same columns in every class of prompts")
        whole = {name: _interval(interval) for name, interval in data["whole"].items()}
        drift = _ratio(data["drift"], subjects) if "drift" in data else None
        return cls(str(data["records_sha256"]), sums, whole, drift)


@dataclass(frozen=True)
class Packed:
    """What ``packed.json`` says."""

    photos_sha256: str
    """Hash of the reference photos and galleries of the folder that was packed."""
    entries: Mapping[str, KeptEntry]
    """By label; an entry whose images were not all scored is not among them."""

    def to_json(self) -> dict:
        entries = {label: entry.to_json() for label, entry in self.entries.items()}
        return {"version": _VERSION, "photos_sha256": self.photos_sha256, "entries": entries}


def read_packed(path: Path, protocol: Protocol) -> Packed:
    """What the file says of results of that protocol.

    Raises:
        LikenessError: the file is damaged, or of another version of Likeness.
    """
    data = read_json(path, "unpack the results again")
    try:
        if data["version"] != _VERSION:
            raise LikenessError(f"{path} was written by another version of Likeness: unpack it with that one")
        entries = {label: KeptEntry.from_json(one, protocol) for label, one in data["entries"].items()}
        return Packed(str(data["photos_sha256"]), entries)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LikenessError(f"{path} is damaged ({type(error).__name__}: {error}): unpack the results again") from error


def kept_picture(image: Path) -> bytes:
    """The small picture that was kept of an image; raises ``LikenessError`` where it is missing."""
    path = image.with_suffix(".webp")
    try:
        return read_file(path)
    except OSError as error:
        raise LikenessError(f"{path} cannot be read ({error.strerror}): unpack the results again") from error


def _sums(column: Ratio) -> dict[str, list[float]]:
    return {"numerator": column.numerator.tolist(), "denominator": column.denominator.tolist()}


def _interval(kept: Mapping) -> Interval:
    interval = Interval(**kept)
    if any(type(number) not in (int, float, type(None)) for number in kept.values()):
        raise ValueError("a value is no number")
    return interval


def _ratio(kept: Mapping, subjects: int) -> Ratio:
    top, bottom = (np.array(kept[name], np.float64) for name in ("numerator", "denominator"))
    if {top.shape, bottom.shape} != {(subjects,)}:
        raise ValueError(f"sums by subject are not of {subjects} subjects")
    return Ratio(top, bottom)

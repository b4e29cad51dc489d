"""Where an entry stands: whether it copies its reference, and its place among the rows."""

from collections.abc import Iterable, Mapping

from contracts.records import Interval
from leaderboard.results.anchors import KINDS
from metrics.card import MetricCard
from metrics.derived import RECOVERED

_ORDER = {kind: place for place, kind in enumerate(KINDS)}


def copied(found: Mapping[str, Interval], cards: Iterable[MetricCard], limit: float) -> list[str]:
    """The columns of copy-paste by which an entry copies its reference.

    The lower end of the interval lies above ``limit``, or the value itself where there is no interval.

    Args:
        found: What the entry has in every column.
        cards: The board's columns, which name those of copy-paste as their guards.
    """
    guards = dict.fromkeys(name for card in cards for name in card.guards if name in found)
    surest = {name: found[name].value if found[name].low is None else found[name].low for name in guards}
    return [name for name, value in surest.items() if value is not None and value > limit]


def place(row: Mapping) -> tuple:
    """The sort key of a row: anchors that show photos, methods from best to worst, the other anchors.

    A row on top reads as the lead whatever its marks say, so methods that copy, or lack images, stand behind those that
    do not. Within both the likeness to people decides, then that to objects; it is the column behind the recovered one,
    which is there without a floor too and has the same order. Equal ones stand by label.
    """
    values = [row["metrics"][metric.base]["value"] for metric in RECOVERED if metric.base in row["metrics"]]
    likeness = [float("inf") if value is None else -value for value in values]
    behind = bool(row["copies"] or row["counts"]["missing"])
    return _ORDER[row["kind"]], behind, *likeness, row["label"]

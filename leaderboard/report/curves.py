"""The curve of a method along a sweep: its columns of the board, what their tests compare, and its points."""

from collections.abc import Iterable, Mapping

from contracts.records import Interval
from leaderboard.report.scored import Row
from leaderboard.report.statistics import derived_interval, interval_of, values_of
from metrics.base import Floats, Ratio
from metrics.curve import CURVES, PROMPT, CurveMetric
from metrics.derived import PROMPT_KEPT

UNKNOWN = Interval(None, None, None, 0)


def curve_intervals(row: Row, floor: Row | None, names: Iterable[str]) -> dict[str, Interval]:
    """The values and intervals of the columns ``names`` of curves; nothing is known without a sweep or a floor."""
    found = {}
    for name in names:
        ratios = _ratios(CURVES[name], row, floor)
        found[name] = interval_of(CURVES[name].statistic, *ratios) if ratios else UNKNOWN
    return found


def curve_values(rows: Iterable[Row], floor: Row | None, names: Iterable[str]) -> dict[str, dict[str, Floats]]:
    """{column: {label: values (K, S)}} of the rows that have a curve, for paired tests."""
    found: dict[str, dict[str, Floats]] = {name: {} for name in names}
    for row in rows:
        for name, by_label in found.items():
            if ratios := _ratios(CURVES[name], row, floor):
                by_label[row.label] = values_of(CURVES[name].statistic, *ratios)
    return found


def _ratios(metric: CurveMetric, row: Row, floor: Row | None) -> list[Ratio]:
    """The columns that the metric is a function of; empty where there are not all of them."""
    if floor is None or not row.points:
        return []
    points = list(row.points.values())
    names = (metric.base, PROMPT)
    return [point.columns[name] for name in names for point in points] + [floor.columns[name] for name in names]


def sweep(row: Row, floor: Row | None, ceiling: Row) -> dict:
    """What was turned, and every point of the row's sweep with its measured columns and the share of the prompt that it
    keeps; ``own`` is the value that the row itself has."""
    knob: Mapping = row.entry.knob or {}
    points = []
    for value, point in row.points.items():
        found = point.intervals()
        if floor is not None and PROMPT in point.columns:
            columns = (one.columns[PROMPT] for one in (point, floor, ceiling))
            found[PROMPT_KEPT.name] = derived_interval(PROMPT_KEPT, *columns)
        points.append({"value": value, "metrics": found})
    return {"knob": knob["name"], "own": knob["value"], "points": points}

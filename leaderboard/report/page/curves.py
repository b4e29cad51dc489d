"""Geometry of the page's curves: likeness against the share of the prompt that is kept, along each method's sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leaderboard.report.page.plots import BOTTOM, LEFT, RIGHT, TOP, Axis, Measure, Tick
from metrics.curve import SHARE


@dataclass(frozen=True)
class Swept:
    """A point of a sweep: its name, its place, its likeness with bounds, and whether the method's row has this
    setting."""

    name: str
    kept: float
    likeness: tuple[float, float, float]
    own: bool


@dataclass(frozen=True)
class Mark:
    """A point of a curve in SVG units, and what it says."""

    x: float
    y: float
    text: str
    own: bool


@dataclass(frozen=True)
class Curve:
    """One method's curve: its ``line`` and the ``band`` of its intervals as SVG paths, and its points."""

    label: str
    colour: int
    line: str
    band: str
    marks: Sequence[Mark]


@dataclass(frozen=True)
class CurvePlot:
    """Everything that the template draws; ``matched`` is where methods are compared."""

    x: Measure
    y: Measure
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: Sequence[Curve]
    matched: float | None


def make_curves(x: Measure, y: Measure, sweeps: Mapping[str, Sequence[Swept]], colours: Mapping[str, int]) -> CurvePlot:
    """Place the points of each sweep, given by label in their order, and join them."""
    points = [point for sweep in sweeps.values() for point in sweep]
    to_x = Axis.over(x, [point.kept for point in points], LEFT, RIGHT)
    to_y = Axis.over(y, [bound for point in points for bound in point.likeness], BOTTOM, TOP)
    curves = []
    for label, sweep in sweeps.items():
        values, lows, highs = (
            [(to_x.place(point.kept), to_y.place(point.likeness[i])) for point in sweep] for i in range(3)
        )
        marks = [
            Mark(*place, f"{label}, {point.name}: {point.likeness[0]:.3f} at {point.kept:.3f}", point.own)
            for place, point in zip(values, sweep, strict=True)
        ]
        curves.append(Curve(label, colours[label], _path(values), f"{_path([*lows, *reversed(highs)])}Z", marks))
    matched = to_x.place(SHARE) if to_x.low < SHARE < to_x.high else None
    return CurvePlot(x, y, to_x.ticks, to_y.ticks, curves, matched)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)

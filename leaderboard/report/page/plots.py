"""Geometry of the page's plots: two measures of every entry against each other, and the Pareto front.

The template draws them as SVG, so that labels stay text and colours follow light, dark and print.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 400, 300  # of the whole drawing, in SVG units, which are CSS pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 48, 384, 12, 252
_LINE = 13  # distance of two labels


@dataclass(frozen=True)
class Measure:
    """What an axis shows: ``title`` with its unit, and whether more is better; a logarithmic axis is for costs."""

    title: str
    higher_is_better: bool
    logarithmic: bool = False


@dataclass(frozen=True)
class Reading:
    """One entry's place: ``x`` and ``y`` as (value, low, high); bounds may be ``None``.

    ``competes`` says whether it can be on the front: no anchor can, nor an entry that copies its reference or lacks
    images.
    """

    label: str
    kind: str
    colour: int
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]
    competes: bool


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in SVG units, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A reading in SVG units; ``label_y`` is moved so that labels do not cover each other."""

    reading: Reading
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    label_x: float
    label_y: float
    label_anchor: str
    on_front: bool


@dataclass(frozen=True)
class Plot:
    """Everything that the template draws."""

    x: Measure
    y: Measure
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    front: str
    """SVG path along the Pareto front; empty for a single point."""
    lines: tuple[Tick, ...]
    """Horizontal lines of reference, with their names."""


def pareto_front(readings: Sequence[Reading], x: Measure, y: Measure) -> list[Reading]:
    """The readings that none beats in one measure without losing in the other, from the best ``x`` to the worst."""

    def key(reading: Reading) -> tuple[float, float]:
        return tuple(  # type: ignore[return-value]
            value if measure.higher_is_better else -value for value, measure in ((reading.x[0], x), (reading.y[0], y))
        )

    front: list[Reading] = []
    best = -math.inf
    for reading in sorted(readings, key=key, reverse=True):
        if key(reading)[1] > best:
            best = key(reading)[1]
            front.append(reading)
    return front


def make_plot(x: Measure, y: Measure, readings: Sequence[Reading], levels: Mapping[str, float]) -> Plot:
    """Place the readings.

    Args:
        levels: Values of ``y`` by name that are drawn as horizontal lines: of anchors that have no place on ``x``.
    """
    to_x = Axis.over(x, [v for r in readings for v in r.x if v is not None], LEFT, RIGHT)
    heights = [v for r in readings for v in r.y if v is not None]
    to_y = Axis.over(y, [*heights, *levels.values()], BOTTOM, TOP)
    front = pareto_front([reading for reading in readings if reading.competes], x, y)
    label_ys = _spread([to_y.place(reading.y[0]) - 8 for reading in readings])
    points = tuple(
        _point(reading, to_x, to_y, label_y, reading in front)
        for reading, label_y in zip(readings, label_ys, strict=True)
    )
    lines = tuple(Tick(to_y.place(value), name) for name, value in levels.items())
    return Plot(x, y, to_x.ticks, to_y.ticks, points, _steps(front, to_x, to_y), lines)


@dataclass(frozen=True)
class Axis:
    """Maps values in ``low``..``high`` to SVG units in ``start``..``end``."""

    measure: Measure
    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, measure: Measure, values: Sequence[float], start: float, end: float) -> "Axis":
        """An axis with some room around the values."""
        low, high = min(values), max(values)
        if measure.logarithmic:
            return cls(measure, low / 1.5, high * 1.5, start, end)
        margin = 0.06 * (high - low) or 0.05
        return cls(measure, low - margin, high + margin, start, end)

    def place(self, value: float) -> float:
        """Where a value lies."""
        scale = math.log10 if self.measure.logarithmic else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(self.start + share * (self.end - self.start), 2)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """About five round values."""
        wide = self.measure.logarithmic and self.high > 10 * self.low
        locator = LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5)
        values = [float(v) for v in locator.tick_values(self.low, self.high) if self.low <= v <= self.high]
        return tuple(Tick(self.place(v), _short(v)) for v in values[:: max(1, len(values) // 4)])


def _point(reading: Reading, to_x: Axis, to_y: Axis, label_y: float, on_front: bool) -> Point:
    x, y = to_x.place(reading.x[0]), to_y.place(reading.y[0])
    on_left = x < 0.6 * RIGHT
    (x_low, x_high), (y_low, y_high) = (
        [axis.place(bound) for bound in _bounds(values)] for axis, values in ((to_x, reading.x), (to_y, reading.y))
    )
    return Point(
        reading=reading,
        x=x,
        y=y,
        x_low=x_low,
        x_high=x_high,
        y_low=y_low,
        y_high=y_high,
        label_x=x + 4 if on_left else x - 4,
        label_y=label_y,
        label_anchor="start" if on_left else "end",
        on_front=on_front,
    )


def _bounds(reading: tuple[float, float | None, float | None]) -> tuple[float, float]:
    value, low, high = reading
    return value if low is None else low, value if high is None else high


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:.4g}" if abs(value) > 1e-9 else "0"


def _spread(wanted: Sequence[float]) -> list[float]:
    """Heights near the wanted ones, in their order, at least a line apart, and inside the drawing."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = list(wanted)
    for above, below in pairwise(order):
        heights[below] = max(heights[below], heights[above] + _LINE)
    for below, above in pairwise(reversed(order)):
        heights[below] = min(heights[below], BOTTOM)
        heights[above] = min(heights[above], heights[below] - _LINE)
    return [round(height, 2) for height in heights]


def _steps(front: Sequence[Reading], to_x: Axis, to_y: Axis) -> str:
    """The edge of what the front dominates: from one point to the next by the corner that both reach."""
    return "".join(
        f"M{to_x.place(a.x[0])} {to_y.place(a.y[0])}H{to_x.place(b.x[0])}V{to_y.place(b.y[0])}"
        for a, b in pairwise(front)
    )

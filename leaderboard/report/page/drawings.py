"""Which plots the page has, from the content of ``leaderboard.json``: likeness against prompt fit, along sweeps, and
against cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from leaderboard.report.page.curves import CurvePlot, Swept, make_curves
from leaderboard.report.page.plots import Measure, Plot, Reading, make_plot
from leaderboard.report.page.view import LIKENESS, colours
from leaderboard.report.tables.titles import cost_text, known_costs, narrow_costs, title_of
from leaderboard.results.anchors import METHOD, shows_photo
from metrics.derived import PROMPT_KEPT

PROMPT = PROMPT_KEPT.base
FIRST = 10
"""Images that somebody wants of a new subject."""
Triple = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class TradeOff:
    """A plot of likeness (``of``) against something else: prompt fit, or a cost."""

    of: str
    plot: Plot


def trade_offs(board: Mapping) -> list[TradeOff]:
    """Likeness against prompt fit; anchors that show photos are lines, as a photo answers no prompt."""
    x = Measure(f"{title_of(board, PROMPT)} →", True)
    return _plots(board, x, lambda entry: _triple(entry["metrics"][PROMPT]))


@dataclass(frozen=True)
class Sweep:
    """The curves of likeness (``of``) against the share of the prompt that is kept."""

    of: str
    plot: CurvePlot


def sweeps(board: Mapping) -> list[Sweep]:
    """The curves of the methods that were swept, for people and for objects."""
    found = []
    for name, of in LIKENESS.items():
        curves = {e["label"]: _points(e["sweep"], name) for e in board["entries"] if "sweep" in e}
        if curves := {label: points for label, points in curves.items() if len(points) > 1}:
            x, y = (Measure(f"{title_of(board, measure)} →", True) for measure in (PROMPT_KEPT.name, name))
            found.append(Sweep(of, make_curves(x, y, curves, colours(board))))
    return found


def _points(sweep: Mapping, name: str) -> list[Swept]:
    """The points that have both measures."""
    points = []
    for point in sweep["points"]:
        kept, likeness = (_triple(point["metrics"].get(n, {"value": None})) for n in (PROMPT_KEPT.name, name))
        if kept is not None and likeness is not None:
            value, low, high = likeness
            bounds = value, value if low is None else low, value if high is None else high
            words = f"{sweep['knob']} {point['value']:g}"
            points.append(Swept(words, kept[0], bounds, point["value"] == sweep["own"]))
    return points


def costs(board: Mapping) -> list[TradeOff]:
    """Likeness against each known cost."""
    found: list[TradeOff] = []
    for name in narrow_costs(board):
        x = Measure(f"← {title_of(board, name)}", False, logarithmic=True)
        found += _plots(board, x, partial(_cost, name))
    return found


def new_subject(board: Mapping) -> list[TradeOff]:
    """Likeness against what a new subject costs: the seconds until the first ``FIRST`` images of it are there."""
    return _plots(board, Measure(f"← Seconds to enrol and for {FIRST} images", False, logarithmic=True), _until_first)


def _until_first(entry: Mapping) -> Triple | None:
    per_image, enrol = entry["costs"]["seconds_per_image"], entry["costs"]["enrol_seconds"]
    return (float(FIRST * per_image + (enrol or 0.0)), None, None) if per_image else None


def cost_texts(board: Mapping, entry: Mapping) -> str:
    """Every known cost of an entry, in words."""
    known = {name: entry["costs"][name] for name in known_costs(board)}
    return "; ".join(f"{title_of(board, name)} {cost_text(name, cost)}" for name, cost in known.items() if cost)


def _cost(name: str, entry: Mapping) -> Triple | None:
    value = entry["costs"][name]
    return (float(value), None, None) if value else None


def _triple(found: Mapping) -> Triple | None:
    return None if found["value"] is None else (found["value"], found["low"], found["high"])


def _plots(board: Mapping, x: Measure, place: Callable[[Mapping], Triple | None]) -> list[TradeOff]:
    """A plot for people and one for objects, where the board has them."""
    plots = {of: _plot(board, name, x, place) for name, of in LIKENESS.items() if name in board["metrics"]}
    return [TradeOff(of, plot) for of, plot in plots.items() if plot is not None]


def _plot(board: Mapping, name: str, x: Measure, place: Callable[[Mapping], Triple | None]) -> Plot | None:
    numbers, readings, levels = colours(board), [], {}
    for entry in board["entries"]:
        y = _triple(entry["metrics"][name])
        if y is None:
            continue
        at = place(entry)
        if shows_photo(entry["kind"]) or (at is None and entry["kind"] != METHOD):
            levels[entry["label"]] = y[0]
        elif at is not None:
            copies = set(board["metrics"][name]["guards"]) & set(entry["copies"])
            competes = entry["kind"] == METHOD and not copies and not entry["counts"]["missing"]
            readings.append(Reading(entry["label"], entry["kind"], numbers[entry["label"]], at, y, competes))
    if not any(reading.kind == METHOD for reading in readings):
        return None
    if x.logarithmic and len({reading.x[0] for reading in readings}) < 2:
        return None  # a cost that is the same for all separates nobody
    return make_plot(x, Measure(f"{title_of(board, name)} →", True), readings, levels)

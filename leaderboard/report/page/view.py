"""From the content of ``leaderboard.json`` to what the page's template shows: cells, bars, plots, breakdowns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leaderboard.report.statistics import SIGNIFICANT
from leaderboard.report.tables.significance import NO_MARK, Mark, mark
from leaderboard.report.tables.titles import cost_text, headline, known_costs, title_of, trainings
from leaderboard.results.anchors import METHOD
from metrics.derived import IDENTITY_RECOVERED, PAIR_RECOVERED, SUBJECT_RECOVERED

LIKENESS = {
    IDENTITY_RECOVERED.base: "Identity",
    SUBJECT_RECOVERED.base: "Likeness of objects",
    PAIR_RECOVERED.base: "Identity of pairs",
}
"""What plots are of, of people, of objects and of two people, and what they call it."""
BAR = 100  # width of an interval's drawing, in SVG units
COLOURS = 8
MAX_BARS = 60  # rows of a table with bars; a longer one is numbers alone, to keep the page light
COST_HEADLINE = ("enrol_seconds", "seconds_per_image")


@dataclass(frozen=True)
class Cell:
    """One value of a table: ``sort`` orders it, ``bar`` draws its interval as (low, value, high) in 0..``BAR``."""

    text: str
    interval: str = ""
    sort: float | None = None
    bar: tuple[float, float, float] | None = None
    mark: Mark = NO_MARK


@dataclass(frozen=True)
class Column:
    """A column of the main table."""

    name: str
    title: str
    group: str
    arrow: str
    headline: bool
    about: str


@dataclass(frozen=True)
class Row:
    """An entry of the main table; ``colour`` numbers it through the whole page, ``copies`` says that it copies its
    reference, ``missing`` how many images it lacks, ``unsaid`` that nobody says which photos it was trained on,
    ``trainings`` how many times it was trained."""

    label: str
    kind: str
    colour: int
    cells: Sequence[Cell]
    copies: bool
    missing: int
    unsaid: bool
    trainings: int


def columns(board: Mapping) -> list[Column]:
    """Every column of the main table: metrics, then the costs that somebody knows."""
    shown = headline(board)
    cards = board["metrics"]
    found = [
        Column(
            name,
            title_of(board, name),
            card["group"],
            "↑" if card["higher_is_better"] else "↓",
            name in shown,
            card["about"],
        )
        for name, card in cards.items()
    ]
    return found + [Column(n, title_of(board, n), "cost", "↓", n in COST_HEADLINE, "") for n in known_costs(board)]


def rows(board: Mapping) -> list[Row]:
    """Every entry, in the order of the board."""
    scales = {name: _scale(board, name) for name in board["metrics"]}
    marks = {name: mark(board, name) for name in board["metrics"]}
    return [
        Row(
            entry["label"],
            entry["kind"],
            colour,
            [
                *(
                    metric_cell(entry["metrics"][name], scales[name], marks[name].get(entry["label"], NO_MARK))
                    for name in board["metrics"]
                ),
                *(
                    Cell(cost_text(name, entry["costs"][name]), sort=entry["costs"][name])
                    for name in known_costs(board)
                ),
            ],
            bool(entry["copies"]),
            entry["counts"]["missing"],
            bool(entry.get("unsaid")),
            trainings(entry),
        )
        for entry, colour in zip(board["entries"], colours(board).values(), strict=True)
    ]


def colours(board: Mapping) -> dict[str, int]:
    """A colour number by label: methods from 1 on, anchors 0."""
    numbers: dict[str, int] = {}
    for entry in board["entries"]:
        methods = sum(number > 0 for number in numbers.values())
        numbers[entry["label"]] = methods % COLOURS + 1 if entry["kind"] == METHOD else 0
    return numbers


def metric_cell(found: Mapping, scale: tuple[float, float] | None, mark: Mark = NO_MARK) -> Cell:
    """An interval as text and, between the bounds of ``scale``, as a bar."""
    value, low, high = found["value"], found["low"], found["high"]
    if value is None:
        return Cell("n/a")
    interval = "" if low is None else f"{low:.3f} to {high:.3f}"
    if scale is None:
        return Cell(f"{value:.3f}", interval, value, mark=mark)
    span = scale[1] - scale[0] or 1.0
    ends = (value if low is None else low, value, value if high is None else high)
    low_at, value_at, high_at = (round((v - scale[0]) / span * BAR, 2) for v in ends)
    return Cell(f"{value:.3f}", interval, value, (low_at, value_at, high_at), mark)


def _scale(board: Mapping, name: str) -> tuple[float, float]:
    values = [v for entry in board["entries"] for v in _numbers(entry["metrics"][name])]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _numbers(found: Mapping) -> list[float]:
    return [found[key] for key in ("value", "low", "high") if found[key] is not None]


@dataclass(frozen=True)
class Duel:
    """Two methods in one metric: the texts of a row, and who is better, empty if they cannot be told apart."""

    a: str
    b: str
    difference: str
    interval: str
    p: str
    better: str


@dataclass(frozen=True)
class Breakdown:
    """One metric by prompt class and by subject, a cell per entry in each row, and its paired tests."""

    name: str
    title: str
    by_class: Mapping[str, Sequence[Cell]]
    by_subject: Mapping[str, Sequence[Cell]]
    duels: Sequence[Duel]


def breakdowns(board: Mapping) -> list[Breakdown]:
    """A breakdown for every headline metric that has one, and for those that are read by prompt class."""
    found = []
    names = [*headline(board), *(name for name, card in board["metrics"].items() if card["by_class"])]
    for name in sorted(dict.fromkeys(names), key=lambda name: name not in LIKENESS):
        by_class = _by(board, "by_class", name)
        by_subject = _by(board, "by_subject", name)
        duels = _duels(board, name)
        if by_class or by_subject or duels:  # a column of curves has tests alone
            found.append(Breakdown(name, title_of(board, name), by_class, by_subject, duels))
    return found


def _duels(board: Mapping, name: str) -> list[Duel]:
    """The head-to-head tests of a metric that could be made."""
    higher = board["metrics"][name]["higher_is_better"]
    return [
        Duel(
            pair["a"],
            pair["b"],
            f"{pair['difference']:+.3f}",
            f"{pair['low']:+.3f} to {pair['high']:+.3f}",
            f"{pair['p_holm']:.2g}",
            (pair["a"] if (pair["difference"] > 0) == higher else pair["b"]) if pair["p_holm"] <= SIGNIFICANT else "",
        )
        for pair in board["comparisons"].get(name, [])
        if pair["p_holm"] is not None
    ]


def _by(board: Mapping, part: str, name: str) -> dict[str, list[Cell]]:
    """Cells by name of a class or subject, one per entry; empty if the metric has no such part."""
    table = {
        key: [_interval(entry[part][key][name]) for entry in board["entries"]]
        for key, measured in board["entries"][0][part].items()
        if name in measured
    }
    values = [value for row in table.values() for found in row for value in _numbers(found)]
    scale = (min(values), max(values)) if values and len(table) <= MAX_BARS else None
    return {key: [metric_cell(found, scale) for found in row] for key, row in table.items()}


def _interval(found: Mapping | float | None) -> Mapping:
    """A subject has a value alone."""
    return found if isinstance(found, Mapping) else {"value": found, "low": None, "high": None}


def manifest_text(entry: Mapping) -> str:
    """The manifest of an entry's run as indented JSON."""
    return json.dumps(entry["manifest"], indent=2, ensure_ascii=False)

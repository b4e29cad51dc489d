"""Two entries against each other, as Markdown."""

from collections.abc import Mapping

from contracts.errors import LikenessError
from leaderboard.report.board import anchors, board_cards, pair_json
from leaderboard.report.comparisons import head_to_head, units_of
from leaderboard.report.curves import curve_values
from leaderboard.report.drift import read_drift
from leaderboard.report.scored import read_scored
from leaderboard.report.standing import copied
from leaderboard.report.statistics import FEW, SIGNIFICANT
from leaderboard.report.tables.markdown import table
from leaderboard.results.anchors import METHOD
from leaderboard.results.folder import Results
from metrics.curve import CURVES


def compare_entries(results: Results, a: str, b: str) -> str:
    """The paired tests of entry ``a`` against entry ``b`` in every column, corrected for all pairs of the column.

    All methods take part in Holm's correction, and anchors where they are asked for. A method that is
    better in a column of likeness as it copies its reference is said to.

    Raises:
        LikenessError: an entry, the floor or the ceiling is not there or not complete.
    """
    scored = read_scored(results)
    entries = {s.entry.label: s for s in scored.rows}
    for label in (a, b):
        if label not in entries:
            raise LikenessError(f"--compare: no complete entry {label!r}, there is {', '.join(entries) or 'none'}")
    if a == b:
        raise LikenessError(f"--compare: {a!r} is given twice")
    drift = read_drift(results)
    cards = board_cards(results, scored, drift)
    taking_part = {
        label: {**s.columns, **drift.columns.get(label, {})}
        for label, s in entries.items()
        if s.entry.kind == METHOD or label in (a, b)
    }
    floor, ceiling = anchors(results, scored)
    curves = curve_values(scored.rows, floor, CURVES.keys() & cards.keys())
    units = units_of(floor.columns if floor else {}, ceiling.columns)
    pairs, _ = head_to_head(taking_part, cards, units, {}, curves=curves)
    limit = results.protocol().copy_limit
    methods = [label for label in (a, b) if entries[label].entry.kind == METHOD]
    copies = {label: copied(entries[label].intervals(), cards.values(), limit) for label in methods}
    rows = []
    for name, found in pairs.items():
        card = cards[name]
        pair = next((pair_json(p) for p in found if {p.a, p.b} == {a, b}), None)
        if pair is None:  # a column of curves, and one of the two has none
            continue
        sign = 1 if pair["a"] == a else -1
        names = [f"{label} (copies)" if set(card.guards) & set(copies.get(label, ())) else label for label in (a, b)]
        rows.append([f"{card.title} {card.arrow}", *_cells(pair, sign, card.higher_is_better, *names)])
    head = ["measure", f"{a} - {b}", "95 % interval", "p", "p (Holm)", "subjects", "better"]
    about = f"Paired by subject (t-test, from {FEW} subjects on); Holm's correction over all pairs of a measure."
    return "\n".join([f"{a} against {b}. {about}", "", *table(head, rows)])


def _cells(pair: Mapping, sign: int, higher_is_better: bool, a: str, b: str) -> list[str]:
    if pair["difference"] is None:
        return ["n/a"] * 4 + [str(pair["n"]), "n/a"]
    difference = sign * pair["difference"]
    interval = "n/a"
    if pair["low"] is not None:
        low, high = sorted((sign * pair["low"], sign * pair["high"]))
        interval = f"{low:+.3f} to {high:+.3f}"
    verdict = "n/a"
    if pair["p_holm"] is not None:
        better = a if (difference > 0) == higher_is_better else b
        verdict = better if pair["p_holm"] <= SIGNIFICANT else "cannot be told apart"
    p = ["n/a" if pair[name] is None else f"{pair[name]:.2g}" for name in ("p", "p_holm")]
    return [f"{difference:+.3f}", interval, *p, str(pair["n"]), verdict]

"""Who leads a column, who cannot be told apart from the leader, and who does not compete as it copies its reference."""

from collections.abc import Mapping
from dataclasses import dataclass

from leaderboard.report.statistics import SIGNIFICANT
from leaderboard.results.anchors import METHOD


@dataclass(frozen=True)
class Mark:
    """``best`` and ``second`` by value; ``tied`` entries cannot be told apart from the best by the paired test, and the
    best is one of them if there is another."""

    best: bool = False
    second: bool = False
    tied: bool = False


NO_MARK = Mark()


def mark(board: Mapping, name: str) -> dict[str, Mark]:
    """The marks of a column by label.

    Anchors compete with nobody, nor does an entry that lacks images. In a column of likeness nor does one
    that copies its reference. Nobody leads a column alone.
    """
    card = board["metrics"][name]
    sign = 1 if card["higher_is_better"] else -1
    values = {
        entry["label"]: sign * entry["metrics"][name]["value"]
        for entry in board["entries"]
        if entry["kind"] == METHOD
        and not entry["counts"]["missing"]
        and entry["metrics"][name]["value"] is not None
        and not set(card["guards"]) & set(entry["copies"])
    }
    if len(values) < 2:
        return {}
    best, *rest = sorted(set(values.values()), reverse=True)
    leaders = {label for label, value in values.items() if value == best}
    tied: set[str] = set()
    for pair in board["comparisons"].get(name, []):
        ends = {pair["a"], pair["b"]}
        tested = pair["p_holm"] is not None and ends <= values.keys()
        if tested and ends & leaders and pair["p_holm"] > SIGNIFICANT:
            tied |= ends
    return {
        label: Mark(value == best, bool(rest) and value == rest[0], label in tied) for label, value in values.items()
    }

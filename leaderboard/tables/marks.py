"""Who leads a column, and who cannot be told apart from the leader."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """``best`` and ``second`` by value; ``tied`` entries share the tie group of the best with another one."""

    best: bool = False
    second: bool = False
    tied: bool = False


NO_MARK = Mark()


def mark(board: Mapping, name: str) -> dict[str, Mark]:
    """The marks of a column by label. Floor and ceiling compete with nobody, and nobody leads a column alone."""
    sign = 1 if board["metrics"][name]["higher_is_better"] else -1
    values = {
        entry["label"]: sign * entry["metrics"][name]["value"]
        for entry in board["entries"]
        if entry["kind"] == "method" and entry["metrics"][name]["value"] is not None
    }
    if len(values) < 2:
        return {}
    best, *rest = sorted(set(values.values()), reverse=True)
    groups = board["ties"].get(name, {})
    leaders = [label for label in values if groups.get(label) == 1]
    return {
        label: Mark(value == best, bool(rest) and value == rest[0], len(leaders) > 1 and label in leaders)
        for label, value in values.items()
    }

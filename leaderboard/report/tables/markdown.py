"""The table as Markdown: a narrow one to read, every measure below it, and what each column means."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from leaderboard.report.statistics import FEW
from leaderboard.report.tables.significance import NO_MARK, Mark, mark
from leaderboard.report.tables.titles import (
    about,
    arrow,
    cost_text,
    entry_name,
    headline,
    narrow_costs,
    of_several,
    spoilt_faces,
    title_of,
)

LEGEND = "**Best**, _second_; † cannot be told apart from the best."
_MARKUP = re.compile(r"[\\`*\[\]~#]|\b_|_\b|(?<=:)//|(?<=\bwww)\.")
_ENTITY = re.compile(r"&(?=\\?#?\w+;)")


def to_markdown(board: Mapping) -> str:
    """The whole report as Markdown."""
    legend = [f"- {escape(title_of(board, name))}: {_code(card['version'])}" for name, card in board["metrics"].items()]
    notes = [f"- Note: {escape(text)}." for text in board["notes"]]
    absent = [f"- {escape(text)}." for text in board["absent"]]
    parts = ["# Leaderboard", summary(board), *("\n".join(lines) for lines in (absent, notes) if lines)]
    parts += ["## Every measure", _all_measures(_escaped(board))]
    if calibration := board.get("calibration"):
        parts += ["## The judges on spoilt faces", spoilt_faces(calibration), _spoilt(_escaped(board))]
    parts += ["## Columns", "\n".join(legend)]
    return "\n\n".join(parts) + "\n"


def summary(board: Mapping) -> str:
    """The protocol in one line, and the table of the headline metrics and the costs."""
    told, board = escape(about(board)), _escaped(board)
    names, costs = headline(board), narrow_costs(board)
    marks = {name: mark(board, name) for name in names}
    head = ["entry", *(f"{title_of(board, name)} {arrow(board, name)}" for name in (*names, *costs))]
    rows = [
        [
            entry_name(entry),
            *(_cell(entry["metrics"][name], marks[name].get(entry["label"], NO_MARK)) for name in names),
            *(cost_text(name, entry["costs"][name]) for name in costs),
        ]
        for entry in board["entries"]
    ]
    brackets = f"In brackets: 95 % bootstrap interval over subjects, from {FEW} on{of_several(board)}."
    return "\n".join([f"{told} {brackets} {LEGEND}", "", *table(head, rows)])


def escape(text: str) -> str:
    """Text that Markdown shows as it stands, on one line; words such as ``seconds_per_image`` need nothing for that."""
    text = _MARKUP.sub(r"\\\g<0>", _line(text))
    return _ENTITY.sub("&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


def _line(text: str) -> str:
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _escaped(value: Any) -> Any:
    """A board with all of its texts escaped."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Mapping):
        return {escape(key): _escaped(part) for key, part in value.items()}
    return [_escaped(part) for part in value] if isinstance(value, list | tuple) else value


def _code(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, gap = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{gap}{_line(text)}{gap}{fence}"


def _all_measures(board: Mapping) -> str:
    head = ["measure", *(entry_name(entry) for entry in board["entries"])]
    marks = {name: mark(board, name) for name in board["metrics"]}
    rows = [
        [
            f"{title_of(board, name)} {arrow(board, name)}",
            *(_cell(e["metrics"][name], marks[name].get(e["label"], NO_MARK)) for e in board["entries"]),
        ]
        for name in board["metrics"]
    ]
    return "\n".join(table(head, rows))


def _spoilt(board: Mapping) -> str:
    rows = board["calibration"]["rows"]
    names = [name for name in board["metrics"] if name in rows[0]]
    head = ["photos", *(f"{title_of(board, name)}" for name in names)]
    return "\n".join(table(head, [[row["photos"], *(f"{row[name]:.3f}" for name in names)] for row in rows]))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table that reads well as plain text too; all columns but the first are right-aligned."""
    clean = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (head, *rows)]
    widths = [max(len(line[i]) for line in clean) for i in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in clean]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]


def _cell(found: Mapping, mark: Mark) -> str:
    if found["value"] is None:
        return "n/a"
    text = f"{found['value']:.3f}"
    text = f"**{text}**" if mark.best else f"_{text}_" if mark.second else text
    text += "†" if mark.tied else ""
    return text if found["low"] is None else f"{text} [{found['low']:.3f}, {found['high']:.3f}]"

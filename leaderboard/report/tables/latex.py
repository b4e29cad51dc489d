"""The table as LaTeX, for a paper: ``\\usepackage{booktabs}`` is all that it needs."""

import re
from collections.abc import Mapping
from itertools import groupby

from leaderboard.report.statistics import FEW
from leaderboard.report.tables.significance import NO_MARK, Mark, mark
from leaderboard.report.tables.titles import about, cost_text, entry_name, headline, narrow_costs, of_several, title_of
from leaderboard.results.anchors import KINDS, METHOD

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"{{{character}}}" for character in '[]*"<>|'},  # behind a line break the first ones are arguments
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return re.sub(r'[\\~^&%$#_{}\[\]*"<>|]', lambda found: _SPECIAL[found[0]], line)


def to_latex(board: Mapping) -> str:
    """A ``table`` with the headline metrics and the costs; anchors stand apart from the methods."""
    names, costs = headline(board), narrow_costs(board)
    marks = {name: mark(board, name) for name in names}
    directions = {name: _ARROWS[board["metrics"][name]["higher_is_better"]] for name in names}
    head = ["Method", *(f"{escape(title_of(board, n))} {directions[n]}" for n in names)]
    head += [f"{escape(title_of(board, n))} {_ARROWS[False]}" for n in costs]
    lines = []
    for _, kinds in groupby(KINDS, METHOD.__eq__):
        group = set(kinds)
        rows = [
            " & ".join(
                [
                    escape(entry_name(entry)),
                    *(_cell(entry["metrics"][name], marks[name].get(entry["label"], NO_MARK)) for name in names),
                    *(escape(cost_text(name, entry["costs"][name])) for name in costs),
                ]
            )
            + r" \\"
            for entry in board["entries"]
            if entry["kind"] in group
        ]
        if rows:
            lines += [r"\midrule", *rows]
    caption = (
        f"{escape(about(board))} Intervals: 95\\,\\% bootstrap over subjects, from {FEW} on{of_several(board)}. "
        r"Best in bold, second underlined; $^\dagger$: cannot be told apart from the best (paired by subject, Holm)."
    )
    if any(entry["copies"] for entry in board["entries"]):
        limit = f"{board['protocol']['copy_limit']:g}"
        caption += (
            f" An entry that copies its reference (copy-paste above {limit}) gets no mark in columns of likeness."
        )
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'c' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(found: Mapping, mark: Mark) -> str:
    if found["value"] is None:
        return "--"
    text = f"{found['value']:.3f}"
    text = rf"\textbf{{{text}}}" if mark.best else rf"\underline{{{text}}}" if mark.second else text
    text += r"$^\dagger$" if mark.tied else ""
    if found["low"] is None:
        return text
    return rf"{text} {{\scriptsize [{found['low']:.3f}, {found['high']:.3f}]}}"

"""Writes the report of a results folder: the leaderboard in every form, the image grid, and the page."""

import io
from collections.abc import Sequence

from contracts.files import write_atomically, write_json
from leaderboard.report.board import make_leaderboard
from leaderboard.report.grid import make_grid
from leaderboard.report.page.render import render_page
from leaderboard.report.scored import read_scored
from leaderboard.report.tables.dataframe import to_csv
from leaderboard.report.tables.latex import to_latex
from leaderboard.report.tables.markdown import summary, to_markdown
from leaderboard.results.folder import Results

NO_GRID = "grid.png is not written: these are packed results, without the images themselves"


def write_report(results: Results) -> tuple[str, Sequence[str]]:
    """Write ``leaderboard.json``, ``.csv``, ``.md``, ``.tex`` and ``.html``; also ``grid.png``, but of packed results.

    Returns:
        The narrow table as Markdown, and notes for the user.

    Raises:
        LikenessError: the folder holds no complete floor and ceiling, or an entry was scored by other metrics.
    """
    scored = read_scored(results)
    board = make_leaderboard(results, scored)
    written = {
        "leaderboard.csv": to_csv(board).encode(),
        "leaderboard.md": to_markdown(board).encode(),
        "leaderboard.tex": to_latex(board).encode(),
        "leaderboard.html": render_page(results, board, scored.records).encode(),
    }
    if results.packed is None:
        sheet = io.BytesIO()
        make_grid(results, [entry["label"] for entry in board["entries"]], scored.records).save(sheet, "PNG")
        written["grid.png"] = sheet.getvalue()
    for name, data in written.items():
        write_atomically(results.root / name, data)
    write_json(results.root / "leaderboard.json", board)
    return summary(board), [*board["notes"], *([NO_GRID] if results.packed else [])]

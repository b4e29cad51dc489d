"""Writes the report of a results folder: the leaderboard in every form, the image grid, and the page."""

import io
from collections.abc import Sequence

from datamodules.files import replace_atomically
from leaderboard.board import make_leaderboard, read_scored
from leaderboard.grid import draw_grid
from leaderboard.page.render import render_page
from leaderboard.results import Results, write_json
from leaderboard.tables.frames import to_csv
from leaderboard.tables.latex import to_latex
from leaderboard.tables.markdown import summary, to_markdown


def write_report(results: Results) -> tuple[str, Sequence[str]]:
    """Write ``leaderboard.json``, ``.csv``, ``.md``, ``.tex`` and ``.html``, and ``grid.png``.

    Returns:
        The narrow table as Markdown, and notes for the user.

    Raises:
        LikenessError: the folder holds no complete floor and ceiling, or an entry was scored by other metrics.
    """
    scored = read_scored(results)
    board = make_leaderboard(results, scored)
    sheet = io.BytesIO()
    draw_grid(results, [entry["label"] for entry in board["entries"]], scored.records).save(sheet, "PNG")
    written = {
        "leaderboard.csv": to_csv(board).encode(),
        "leaderboard.md": to_markdown(board).encode(),
        "leaderboard.tex": to_latex(board).encode(),
        "leaderboard.html": render_page(results, board, scored.records).encode(),
        "grid.png": sheet.getvalue(),
    }
    for name, data in written.items():
        replace_atomically(results.root / name, data)
    write_json(results.root / "leaderboard.json", board)
    return summary(board), board["notes"]

"""Writes the report of a results folder: the leaderboard in three forms, and the image grid."""

import io

from datamodules.files import replace_atomically
from leaderboard.grid import draw_grid
from leaderboard.results import Results, write_json
from leaderboard.tables import make_leaderboard, to_csv, to_markdown


def write_report(results: Results) -> tuple[str, list[str]]:
    """Write ``leaderboard.json``, ``.csv``, ``.md`` and ``grid.png``.

    Returns:
        The table as Markdown, and notes for the user.

    Raises:
        LikenessError: the folder holds no complete floor and ceiling, or an entry was scored by other metrics.
    """
    board, notes = make_leaderboard(results)
    markdown = to_markdown(board)
    write_json(results.root / "leaderboard.json", board)
    replace_atomically(results.root / "leaderboard.csv", to_csv(board).encode())
    replace_atomically(results.root / "leaderboard.md", markdown.encode())
    sheet = io.BytesIO()
    draw_grid(results, [entry["label"] for entry in board["entries"]]).save(sheet, "PNG")
    replace_atomically(results.root / "grid.png", sheet.getvalue())
    return markdown, notes

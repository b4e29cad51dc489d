"""The table as a data frame, and as CSV."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from leaderboard.report.tables.titles import trainings


def to_frame(board: Mapping) -> pd.DataFrame:
    """One row per entry; a metric takes the columns NAME, NAME_low, NAME_high and NAME_n.

    ``protocol`` is its hash, ``limit`` the images per entry of a quick look, ``own_judges`` names the judges that a
    method was made with, each with the key of its configuration: ``clip: data.image_encoder``, ``copies`` the
    columns of copy-paste by which an entry copies its reference, and ``missing`` how many images it lacks. Where an
    entry was trained several times, ``trainings`` says how often.
    """
    rows = []
    several = any(trainings(entry) > 1 for entry in board["entries"])
    for entry in board["entries"]:
        row = {
            "label": entry["label"],
            "kind": entry["kind"],
            "protocol": board["protocol"]["hash"],
            "limit": board["protocol"]["limit"],
            "own_judges": "; ".join(f"{judge}: {key}" for judge, key in entry["own_judges"].items()) or None,
            "copies": "; ".join(entry["copies"]) or None,
            "missing": entry["counts"]["missing"],
            **({"trainings": trainings(entry)} if several else {}),
        }
        for name, found in entry["metrics"].items():
            row |= {
                name: found["value"],
                f"{name}_low": found["low"],
                f"{name}_high": found["high"],
                f"{name}_n": found["n"],
            }
        rows.append({**row, **entry["costs"]})
    return pd.DataFrame(rows)


def to_csv(board: Mapping) -> str:
    """The table as CSV; an empty cell is a value that is not defined or not known.

    A text that a spreadsheet would compute has an apostrophe before it.
    """
    frame = to_frame(board).map(_as_text).rename(columns=_as_text)
    counts = [f"{name}_n" for name in board["metrics"]] + ["limit", "trainable_parameters"]
    return frame.astype({name: "Int64" for name in counts if name in frame}).to_csv(index=False, lineterminator="\n")


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    line = " ".join(value.split())
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line

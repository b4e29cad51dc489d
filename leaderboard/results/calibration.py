"""What a results folder knows of its judges: how they judged photos with spoilt faces."""

from typing import Any

from contracts.errors import LikenessError
from leaderboard.results.folder import Results
from leaderboard.results.lines import read_json

_MEND = "remove it and score again"


def read_calibration(results: Results) -> dict[str, Any] | None:
    """``photos``, how many were judged, and ``rows``, each the mean scores of ``photos`` spoilt in one way. ``None``
    where there are none by the present judges.

    Raises:
        LikenessError: the file is damaged.
    """
    if not results.calibration.is_file():
        return None
    found = read_json(results.calibration, _MEND)
    try:
        if found["of"] != results.judged_by():
            return None
        rows = [{"photos": str(row.pop("photos")), **{n: float(v) for n, v in row.items()}} for row in found["rows"]]
        return {"photos": int(found["photos"]), "rows": rows}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LikenessError(f"{results.calibration} is damaged ({error}): {_MEND}") from error

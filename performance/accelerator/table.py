"""The table of ``docs/performance.md``, written anew after every row."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.files import write_atomically

HEADING = "## Measured by `python -m performance.accelerator`"
_TIMED = ("batch", "ms", "images_per_second", "tflops", "share_of_peak", "memory_gb", "idle")
_COUNTED = ("syncs", "casts", "graph_breaks", "encodes")
_TITLES = {"images_per_second": "images/s", "share_of_peak": "of peak", "memory_gb": "GB", "tflops": "TFLOP/s"}


def write_table(page: Path, device: str, accelerator: bool, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the table in the place of what stands below :data:`HEADING`, up to the next heading or the end."""
    text = page.read_text()
    below = re.compile(re.escape(HEADING) + r"\n.*?(?=\n## |\Z)", re.DOTALL)
    section = "\n".join([HEADING, "", *_section(device, accelerator, rows), ""])
    new = below.sub(lambda _: section, text) if below.search(text) else f"{text.rstrip()}\n\n{section}"
    write_atomically(page, new.encode())


def _section(device: str, accelerator: bool, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = (*_TIMED, *_COUNTED) if accelerator else _COUNTED
    said = f"On {device}, in one run."
    if not accelerator:
        said = f"Counted a step on {device}, on networks of the same layers with few channels; times are *not run*."
    head = ["row", "side", *(_TITLES.get(c, c.replace("_", " ")) for c in columns), *(["goals"] if accelerator else [])]
    lines = [said, "", f"| {' | '.join(head)} |", f"|---|---|{'---:|' * len(columns)}{'---|' if accelerator else ''}"]
    for row in rows:
        sides = {name: side for name, side in row.items() if isinstance(side, dict)}
        if "not_run" in row:
            sides = {"": {}}
        for name, side in sides.items():
            cells = [_cell(side.get(column)) for column in columns]
            if "not_run" in row:
                cells[0] = "*not run*"
            goals = _goals(row) if accelerator and name in ("ours", "") else ""
            lines.append(f"| {row['name']} | {name} | {' | '.join(cells)} |{f' {goals} |' if accelerator else ''}")
    return lines


def _goals(row: Mapping[str, Any]) -> str:
    values = row.get("values", [None] * len(row["goals"]))
    told = zip(row["goals"], values, strict=True)
    return "; ".join(f"{goal}: {'*not run*' if value is None else f'{value:.3g}'}" for goal, value in told)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"

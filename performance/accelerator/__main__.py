"""Measure training and generation at published size on this machine's GPU, beside plain loops as diffusers has them.

    python -m performance.accelerator --minutes 9
    python -m performance.accelerator --rows spotdiff-sd15-1 generate-sd15-16
    python -m performance.accelerator --thin                 # try it out: few channels, on whatever there is

Weights are random and nothing is downloaded. Rows come in order of worth; each is written when it is done, and what is
left says *not run*. Without a GPU nothing is timed: casts of weights, graph breaks, waits and encoder runs of a step
are counted, on networks of the same layers with few channels.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from contracts.files import write_json
from performance.accelerator.measuring import Machine
from performance.accelerator.rows import ROWS, Row
from performance.accelerator.table import write_table
from performance.timing import machine as versions

RESULTS = Path("performance/accelerator.json")
PAGE = Path("docs/performance.md")


def main(arguments: list[str] | None = None) -> int:
    """Measure and return the exit code: 0, or 1 where a goal that was measured is missed."""
    lines = __doc__.split("\n\n")
    parser = argparse.ArgumentParser(prog="python -m performance.accelerator", description=lines[0], epilog=lines[2])
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", metavar="NAME", choices=names, help=f"all by default: {', '.join(names)}")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no row that would end later than this")
    parser.add_argument("--thin", action="store_true", help="few channels, to try it out; nothing is written")
    given = parser.parse_args(arguments)
    until = time.monotonic() + 60 * given.minutes
    gpu = torch.cuda.is_available()
    here = Machine(torch.device("cuda" if gpu else "cpu"), timed=gpu or given.thin, seconds=1 if given.thin else 5)
    print(versions())
    if not gpu:
        print("no accelerator here: what is counted is counted on this processor, times are not run")
    chosen = [row for row in ROWS if not given.rows or row.name in given.rows]
    found: list[dict[str, Any]] = [
        {"name": row.name, "goals": [str(goal) for goal in row.goals], "not_run": "not begun"} for row in chosen
    ]
    for number, row in enumerate(chosen):
        found[number] |= _measure(row, here, until - time.monotonic(), thin=given.thin or not gpu)
        if "not_run" in found[number] and "ours" in found[number]:
            del found[number]["not_run"]
        print(_line(found[number]), flush=True)
        if not given.thin:
            write_json(RESULTS, {"device": here.name, "accelerator": gpu, "versions": versions(), "rows": found})
            write_table(PAGE, here.name, gpu, found)
    return 0 if all(holds for row in found for holds in row.get("holds", [])) else 1


def _measure(row: Row, machine: Machine, left: float, thin: bool) -> dict[str, Any]:
    if left < row.seconds * (0.2 if thin else 1):
        return {"not_run": "no time was left"}
    start = time.monotonic()
    try:
        sides = row.measure(machine, row.case(thin))
    except KeyError:
        return {"not_run": f"this version has no base model of the shape {row.shape}"}
    except torch.OutOfMemoryError:
        return {"not_run": "the device has too little memory"}
    values = [goal.value(sides) for goal in row.goals]
    holds = [goal.holds(value) for goal, value in zip(row.goals, values, strict=True) if value is not None]
    return {**sides, "values": values, "holds": [] if thin else holds, "seconds": round(time.monotonic() - start, 1)}


def _line(row: dict[str, Any]) -> str:
    if "not_run" in row:
        return f"{row['name']:<32} not run: {row['not_run']}"
    sides = {name: value for name, value in row.items() if isinstance(value, dict)}
    told = "; ".join(f"{n}: " + ", ".join(f"{k} {v:.4g}" for k, v in side.items()) for n, side in sides.items())
    return f"{row['name']:<32} {told}"


if __name__ == "__main__":
    sys.exit(main())

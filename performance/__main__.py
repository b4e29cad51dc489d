"""``python -m performance [NAME ...]``: run the benchmarks, write ``performance/results.json``, exit 1 if a goal fails.

Where only some are named, the rows of the others stay as they were written last.
Run it through ``make bench``, which keeps every process to one thread that does not spin.
"""

import argparse
import importlib
import json
import logging
import sys
import warnings
from pathlib import Path

from contracts.files import write_json
from performance.timing import Result, machine

BENCHMARKS = {
    "training_step": "training_step.measure",
    "cached_encoders": "cached_encoders.measure",
    "batched_generation": "generation.measure_batches",
    "guidance": "generation.measure_guidance",
    "batched_enrolment": "batched_enrolment.measure",
    "three_forwards": "three_forwards.measure",
    "three_forwards_memory": "three_forwards_memory.measure",
    "report": "report.measure",
    "diversity": "diversity.measure",
    "diversity_growth": "diversity.measure_growth",
    "metric_suite": "metric_suite.measure",
    "face_runs": "face_runs.measure",
    "scoring_memory": "scoring_memory.measure",
}
"""Module and function of this package by the benchmark's name. A module is imported when its turn comes."""
RESULTS = Path(__file__).parent / "results.json"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks named, all by default, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m performance", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all by default: {', '.join(BENCHMARKS)}")
    names = parser.parse_args(arguments).names or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"no benchmark is named {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    # Libraries' remarks about set-up would stand between the rows of the table.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning|diffusers)\.")
    known = [] if names == list(BENCHMARKS) else _written(parser)
    print(machine())
    print(f"{'':<34} {'ours':>10} {'reference':>10}")
    results: list[Result] = []
    for name in names:
        module, function = BENCHMARKS[name].split(".")
        results.append(getattr(importlib.import_module(f"performance.{module}"), function)())
        print(results[-1], flush=True)
    write_json(RESULTS, _merged(known, [result.to_json() for result in results]))
    print(f"wrote {RESULTS}")
    return 0 if all(result.holds for result in results) else 1


def _written(parser: argparse.ArgumentParser) -> list[dict]:
    """The rows of the last runs. They are read before anything is measured, because a benchmark takes minutes."""
    try:
        return json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    except ValueError as error:
        parser.error(f"{RESULTS} is damaged ({error}): remove it")


def _merged(known: list[dict], new: list[dict]) -> list[dict]:
    """One row per name: a new one takes the place of the known one, or follows at the end."""
    rows = {row["name"]: row for row in known}
    return list((rows | {row["name"]: row for row in new}).values())


if __name__ == "__main__":
    sys.exit(main())

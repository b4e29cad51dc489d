"""``python -m performance.faults [WORD ...]``: try every fault on the real commands.

Prints a table, and exits with 1 if a command hung, lost work, ran code of others, or said nothing.

With words only those faults are tried whose name holds one of them, or whose module is one. ``--short`` tries the few
that tests run too. Run it through ``make faults``, which keeps every process to one thread that does not spin.
"""

import argparse
import sys
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

from performance.faults.fault import Tried
from performance.faults.tried import chosen, warmed_bench

WIDTH = 400
"""Letters of what happened, in a row of the table."""


def main(arguments: list[str] | None = None) -> int:
    """Try the faults and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m performance.faults", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="parts of the names of faults; all by default")
    parser.add_argument("--short", action="store_true", help="only the few that tests run too")
    given = parser.parse_args(arguments)
    faults = chosen(given.words, given.short)
    if not faults:
        parser.error(f"no fault has {' or '.join(given.words)} in its name")
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="likeness-faults-") as folder:
        bench = warmed_bench(Path(folder))
        print("| injected | what happened | seconds | verdict |\n|---|---|---:|---|", flush=True)
        for fault in faults:
            tried = fault.tried(bench)
            verdicts[tried.verdict] += 1
            print(_row(tried, folder), flush=True)
    bad = {verdict: verdicts[verdict] for verdict in ("hang", "lost", "executed", "silent")}
    print(f"\n{verdicts.total()} faults: " + ", ".join(f"{many} {verdict}" for verdict, many in bad.items()))
    return 1 if any(bad.values()) else 0


def _row(tried: Tried, folder: str) -> str:
    """A row of a Markdown table; the folder of the bench says nothing to a reader."""
    happened = " ".join(tried.happened.replace(folder, "…").replace("|", "\\|").split())
    happened = textwrap.shorten(happened, WIDTH, placeholder=" …")
    return f"| {tried.injected} | {happened} | {tried.seconds:.1f} | {tried.verdict} |"


if __name__ == "__main__":
    sys.exit(main())

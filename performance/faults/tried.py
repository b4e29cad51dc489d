"""The faults of all modules, and a bench in a process that has imported what the commands do."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from performance.faults.bench import Bench
from performance.faults.fault import FAULTS, Fault

MODULES = ("interruptions", "settings", "files", "pictures")
"""Whose import fills :data:`performance.faults.fault.FAULTS`."""
COMMANDS = ("train", "evaluate", "curate", "generate")
LATE = ("leaderboard.evaluation", "leaderboard.report.report", "leaderboard.generate.own_photos", "curation.build")
"""What the commands import when they know what to do."""


def chosen(words: Sequence[str] = (), short: bool = False) -> list[Fault]:
    """The faults whose names hold one of the words, or whose module is one; all of them where there is no word.

    With ``short`` only those of the short form.
    """
    for name in MODULES:
        importlib.import_module(f"performance.faults.{name}")
    named = [
        fault for fault in FAULTS if not words or any(word in fault.injected or word == fault.module for word in words)
    ]
    return [fault for fault in named if fault.short or not short]


def warmed_bench(root: Path) -> Bench:
    """A bench whose commands start at once: they are forks of this process, which imports everything first."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "MPLBACKEND": "agg"}
    for name in (*COMMANDS, *LATE):
        importlib.import_module(name)
    return Bench(root)

"""The entries of a leaderboard: runs under labels, the floor that has no subject, the ceiling that is no model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import LikenessError
from leaderboard.results.costs import check_costs
from leaderboard.results.folder import Entry
from lightning_modules.run import Run

FLOOR = Entry("prompt-only", "floor")
CEILING = Entry("real-photo", "ceiling")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class RunEntry:
    """A run that takes part as ``entry``."""

    entry: Entry
    run: Run


def find_runs(arguments: Sequence[str]) -> list[RunEntry]:
    """Runs given as ``FOLDER`` (the label is the folder's name) or ``LABEL=FOLDER``.

    Raises:
        LikenessError: a folder is no run, a file of it is damaged, or a label is taken or not usable as a file name.
    """
    found: list[RunEntry] = []
    for argument in arguments:
        label, _, path = argument.rpartition("=")
        folder = Path(path)
        label = label or folder.resolve().name
        if not _LABEL.fullmatch(label):
            raise LikenessError(f"--runs: label {label!r} must be made of letters, digits, '.', '_' and '-'")
        if label in {FLOOR.label, CEILING.label, *(other.entry.label for other in found)}:
            raise LikenessError(f"--runs: label {label!r} is taken: give this run another one with LABEL={folder}")
        run = Run(folder)
        if not run.adapter_file.is_file():
            raise LikenessError(f"--runs: {folder} is no finished run: it has no adapter.safetensors")
        check_costs(run.manifest, run.manifest_file)
        entry = Entry(label, "method", run.adapter_sha256, run.manifest, str(folder), settings=run.settings_hash)
        found.append(RunEntry(entry, run))
    return found

"""The entries of a leaderboard: runs under labels, the floor that has no subject, the ceiling that is no model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import file_sha256
from leaderboard.results.costs import check_costs
from leaderboard.results.folder import Entry
from lightning_modules.run import run_manifest, settings_hash

FLOOR = Entry("prompt-only", "floor")
CEILING = Entry("real-photo", "ceiling")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Run:
    """A run folder that takes part as ``entry``."""

    entry: Entry
    folder: Path


def find_runs(arguments: Sequence[str]) -> list[Run]:
    """Runs given as ``FOLDER`` (the label is the folder's name) or ``LABEL=FOLDER``.

    Raises:
        LikenessError: a folder is no run, a file of it is damaged, or a label is taken or not usable as a file name.
    """
    runs: list[Run] = []
    for argument in arguments:
        label, _, path = argument.rpartition("=")
        folder = Path(path)
        label = label or folder.resolve().name
        if not _LABEL.fullmatch(label):
            raise LikenessError(f"--runs: label {label!r} must be made of letters, digits, '.', '_' and '-'")
        if label in {FLOOR.label, CEILING.label, *(run.entry.label for run in runs)}:
            raise LikenessError(f"--runs: label {label!r} is taken: give this run another one with LABEL={folder}")
        adapter = folder / "adapter.safetensors"
        if not adapter.is_file():
            raise LikenessError(f"--runs: {folder} is no finished run: it has no adapter.safetensors")
        manifest = run_manifest(folder)
        check_costs(manifest, folder / "manifest.json")
        entry = Entry(label, "method", file_sha256(adapter), manifest, str(folder), settings=settings_hash(folder))
        runs.append(Run(entry, folder))
    return runs

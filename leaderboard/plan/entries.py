"""Who takes part in an evaluation: floor, ceiling, runs, and folders of images, each under a label of its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import LikenessError
from leaderboard.images.folder import open_folder
from leaderboard.images.taking import ImagesEntry
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


def find_runs(arguments: Sequence[str], option: str = "--runs") -> list[RunEntry]:
    """Runs given as ``FOLDER`` (the label is the folder's name) or ``LABEL=FOLDER``.

    Args:
        option: The option that they are given by, for errors.

    Raises:
        LikenessError: a folder is no run, a file of it is damaged, or a label is taken or not usable as a file name.
    """
    labels = {FLOOR.label, CEILING.label}
    return [find_run(argument, labels, option) for argument in arguments]


def find_run(argument: str, labels: set[str], option: str = "--runs") -> RunEntry:
    """One such run, whose label joins those that are taken. Raises as :func:`find_runs` does."""
    label, folder = _take_label(argument, labels, option)
    run = Run(folder)
    if not run.adapter_file.is_file():
        raise LikenessError(f"{option}: {folder} is no finished run: it has no adapter.safetensors")
    check_costs(run.manifest, run.manifest_file)
    entry = Entry(label, "method", run.adapter_sha256, run.manifest, str(folder), settings=run.settings_hash)
    return RunEntry(entry, run)


def find_images(argument: str, labels: set[str], allow_missing: float) -> ImagesEntry:
    """A folder of images, given as ``FOLDER`` or ``LABEL=FOLDER``; its label joins those that are taken.

    Under the floor's own label, unless that is taken, the images are the floor.

    Args:
        allow_missing: Share of the requests, 0 to 1, that may have no image.

    Raises:
        LikenessError: the folder cannot be read or holds no images, or the label is taken or not usable as a file name.
    """
    label, folder = _take_label(argument, labels, "--images")
    return ImagesEntry(open_folder(label, folder), "floor" if label == FLOOR.label else "method", allow_missing)


def _take_label(argument: str, labels: set[str], option: str) -> tuple[str, Path]:
    """The label and folder of an argument; a folder whose own name holds ``=`` may be given as it is."""
    label, named, path = argument.partition("=")
    if not named or Path(argument).exists():
        label, path = "", argument
    folder = Path(path)
    label = label or folder.resolve().name
    if not _LABEL.fullmatch(label):
        raise LikenessError(
            f"{option}: label {label!r} must be made of letters, digits, '.', '_' and '-': give one with LABEL={folder}"
        )
    if label in labels:
        raise LikenessError(f"{option}: label {label!r} is taken: give it another one with LABEL={folder}")
    labels.add(label)
    return label, folder

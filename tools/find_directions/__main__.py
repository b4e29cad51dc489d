"""Find attribute directions in W+ from a labelled set of photos.

    python -m tools.find_directions --labels runs/attributes.csv --source pocket10k --wplus pocket/weights/style
        --output runs/directions.safetensors

The labels are a CSV file with a column ``sha256``, which names photos of the dataset, and one column of numbers per
attribute. A direction is what its attribute adds to a code while the others stay (least squares on all of them at
once). It moves the rows of the shortest run of levels (coarse, middle, fine) from which the pair draws at least 0.8 of
what it draws from all rows, told from edited pictures; ``--rows NAME=FIRST:LAST`` sets them by hand. The table says how
much codes tell of the attribute, and how many of the one step of a strength of 1 its rows and all rows draw.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import cache_folder
from datamodules.features.base import EncoderContext
from datamodules.features.store import Features
from datamodules.index import Photo, load_photos
from datamodules.processes import Processes
from datamodules.sources import find_shards
from networks.wplus import load_wplus, wplus_fingerprint
from networks.wplus_directions import Direction, check_name, check_writable, fit_directions, write_directions
from tools.find_directions.rows import FOLDS, DrawnAttributes, told


@dataclass(frozen=True)
class Found:
    """A direction, how many steps of its attribute a strength of 1 draws with its rows and with all rows, and what
    codes tell of the attribute: R^2 on subjects left out."""

    direction: Direction
    drawn: float
    drawn_by_all: float
    told: float


def read_labels(path: Path) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Hashes (N), attribute names (A) and labels (N, A) of a CSV file.

    Raises:
        LikenessError: the file is missing, a column is there twice or cannot name a direction, or something is no
            number; the message names column and line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LikenessError(f"--labels: {path} cannot be read ({error})") from None
    names = [name for name in columns if name != "sha256"]
    if not rows or not names or "sha256" not in columns:
        raise LikenessError(f"--labels: {path} must have a column sha256, a column per attribute, and rows")
    for i, name in enumerate(columns):
        if name in columns[:i]:
            raise LikenessError(f"--labels: {path} has the column {name!r} twice: leave one of them out")
    for name in names:
        try:
            check_name(name)
        except LikenessError as error:
            raise LikenessError(f"--labels: {path}: the column {error}") from None
    labels = np.empty((len(rows), len(names)))
    for i, row in enumerate(rows):
        for j, name in enumerate(names):
            try:
                labels[i, j] = float(row[name])
            except (TypeError, ValueError):
                labels[i, j] = np.nan
            if not np.isfinite(labels[i, j]):
                raise LikenessError(f"--labels: {path}, line {i + 2}: {name} is {row[name]!r}, it must be a number")
    return [row["sha256"] for row in rows], names, labels


def wplus_codes(photos: Sequence[Photo], source: str, cache_dir: Path) -> Tensor:
    """W+ codes (N, rows, width) of a dataset's photos, without background, from the cache where they are there."""
    settings = {"wplus": {"encoder": source, "detector": None}}
    features = Features(["wplus"], settings, EncoderContext("", 256), cache_dir / "features", Processes())
    features.fill_photos(["wplus"], photos)
    return features.of_photos("wplus", photos)


def parse_rows(given: Sequence[str], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Row ranges from NAME=FIRST:LAST; raises ``LikenessError`` for anything else."""
    chosen = {}
    for text in given:
        name, _, span = text.partition("=")
        first, _, last = span.partition(":")
        if name not in names or not (first.isdigit() and last.isdigit()):
            raise LikenessError(f"--rows {text!r}: give NAME=FIRST:LAST with a NAME among {', '.join(names)}")
        chosen[name] = (int(first), int(last))
    return chosen


def find_directions(
    photos: Mapping[str, Photo], labels_file: Path, source: str, limit: int, rows: Sequence[str], cache_dir: Path
) -> list[Found]:
    """A direction for each attribute; at most ``limit`` photos are used, evenly spread."""
    hashes, names, labels = read_labels(labels_file)
    chosen = parse_rows(rows, names)
    known = [i for i, name in enumerate(hashes) if name in photos]
    known = known[:: max(1, -(-len(known) // limit))]
    mine = [photos[hashes[i]] for i in known]
    subjects = [photo.subject_id for photo in mine]
    if len(set(subjects)) < FOLDS:
        raise LikenessError(
            f"--labels: {len(known)} photos of {len(set(subjects))} subjects are in the dataset's training "
            f"split, at least {FOLDS} subjects are needed"
        )
    codes, used = wplus_codes(mine, source, cache_dir), labels[known]
    constant = [name for name, column in zip(names, used.T, strict=True) if np.ptp(column) == 0]
    if constant:
        raise LikenessError(
            f"--labels: {constant[0]} has one value only, so there is no direction: leave the column out"
        )
    vectors = fit_directions(codes, torch.from_numpy(used))
    for name, (first, last) in chosen.items():
        Direction(name, (first, last), vectors[0, first:last]).check(*codes.shape[1:])
    pair = DrawnAttributes(load_wplus(source), codes, used)
    return [
        Found(*pair.choose(i, name, vectors[i], chosen.get(name)), told(codes, used[:, i], subjects))
        for i, name in enumerate(tqdm(names, desc="editing"))
    ]


@as_command
def main(given: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.find_directions", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--labels", type=Path, required=True, help="CSV file with sha256 and one column per attribute")
    parser.add_argument("--source", default="pocket10k", help="dataset that has the photos; its training split is used")
    parser.add_argument("--wplus", required=True, help="folder or checkpoint of the W+ encoder")
    parser.add_argument("--output", type=Path, required=True, help="file of directions to write")
    parser.add_argument("--limit", type=int, default=3000, help="use at most so many photos")
    parser.add_argument("--rows", nargs="*", default=[], metavar="NAME=FIRST:LAST", help="rows of an attribute")
    arguments = parser.parse_args(given)
    if arguments.limit < 1:
        raise LikenessError(f"--limit is {arguments.limit}, it must be at least 1")
    check_writable(arguments.output)
    fingerprint, cache = wplus_fingerprint(arguments.wplus), cache_folder()
    photos = {p.sha256: p for p in load_photos(find_shards(arguments.source), cache) if p.split == "train"}
    found = find_directions(photos, arguments.labels, arguments.wplus, arguments.limit, arguments.rows, cache)
    write_directions(arguments.output, [one.direction for one in found], fingerprint)
    print(f"{'direction':<16} {'rows':>7} {'R^2':>6} {'drawn':>6} {'all':>6}   (steps drawn at strength 1, of 1)")
    for one in found:
        first, last = one.direction.rows
        print(f"{one.direction.name:<16} {first:>3}:{last:<3} {one.told:6.3f} {one.drawn:6.2f} {one.drawn_by_all:6.2f}")
    for one in found:
        if one.told <= 0:
            print(f"note: the codes do not tell {one.direction.name} (R^2 of 0 or less): its direction is of no use")
        elif one.drawn <= 0:
            print(f"note: the pair draws nothing of {one.direction.name}: its direction is of no use")
    print(f"wrote {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

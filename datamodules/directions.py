"""Find attribute directions in W+ from a labelled set of photos.

    python -m datamodules.directions --labels runs/attributes.csv --source pocket10k --wplus pocket/weights/style
        --output runs/directions.safetensors

The labels are a CSV file with a column ``sha256``, which names photos of the dataset, and one column of numbers per
attribute. A direction is what its attribute adds to a code while the others stay (least squares on all of them at
once). It moves the rows of the shortest run of levels (coarse, middle, fine) that tells at least 0.9 of what all rows
tell of the attribute, measured on subjects that the fit did not see; ``--rows NAME=FIRST:LAST`` sets them by hand.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from contracts.errors import LikenessError
from datamodules.encoders import Features, FrozenEncoders
from datamodules.photos import Photo, load_photos, read_pictures
from datamodules.portraits import portrait_of
from datamodules.processes import Processes
from datamodules.sources import cache_folder, find_shards
from networks.wplus import wplus_fingerprint
from networks.wplus_directions import Direction, fit_directions, write_directions
from networks.wplus_mapper import level_rows

ENOUGH = 0.9
FOLDS = 4


def read_labels(path: Path) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Hashes (N), attribute names (A) and labels (N, A) of a CSV file.

    Raises:
        LikenessError: the file is missing or holds something that is no number; the message names line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = [name for name in reader.fieldnames or [] if name != "sha256"]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LikenessError(f"--labels: {path} cannot be read ({error})") from None
    if not rows or not names or "sha256" not in rows[0]:
        raise LikenessError(f"--labels: {path} must have a column sha256, a column per attribute, and rows")
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
    encoders = FrozenEncoders("", None, 256, torch.device("cpu"), wplus_encoder=source)
    features = Features(encoders, cache_dir / "features", Processes())
    by_key = {photo.face_sha256: photo for photo in photos}

    def read(keys: set[str]) -> Iterator[tuple[str, dict]]:
        for picture in read_pictures(by_key[key] for key in sorted(keys)):
            yield picture.photo.face_sha256, {"wplus": portrait_of(picture)}

    features.fill(("wplus",), list(by_key), read)
    return features["wplus"].rows([photo.face_sha256 for photo in photos])


def telling_rows(codes: Tensor, label: NDArray[np.float64], groups: Sequence[str]) -> tuple[tuple[int, int], float]:
    """The rows that tell an attribute, and what they tell: R^2 of a ridge regression on subjects left out.

    At 0 or below they tell nothing, and are those that tell most of the rows there are.
    """
    levels = list(level_rows(codes.shape[1], "three").values())
    runs = sorted(
        ((first[0], last[1]) for i, first in enumerate(levels) for last in levels[i:]),
        key=lambda r: (r[1] - r[0], r[0]),
    )
    probe = make_pipeline(StandardScaler(), Ridge(100.0))
    told = {
        (a, b): float(
            cross_val_score(probe, codes[:, a:b].flatten(1).numpy(), label, groups=groups, cv=GroupKFold(FOLDS)).mean()
        )
        for a, b in runs
    }
    everything = told[0, codes.shape[1]]
    if everything > 0:
        best = next(run for run in runs if told[run] >= ENOUGH * everything)
    else:  # all rows together tell nothing, and no share of it means anything
        best = max(runs, key=lambda run: told[run])
    return best, told[best]


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
) -> list[tuple[Direction, float]]:
    """Directions and how much of its attribute each one's rows tell; at most ``limit`` photos are used, evenly
    spread."""
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
    found = []
    for name, vector, column in zip(names, fit_directions(codes, torch.from_numpy(used)), used.T, strict=True):
        span, told = telling_rows(codes, column, subjects)
        span = chosen.get(name, span)
        direction = Direction(name, span, vector[span[0] : span[1]])
        direction.check(*codes.shape[1:])
        found.append((direction, told))
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m datamodules.directions", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--labels", type=Path, required=True, help="CSV file with sha256 and one column per attribute")
    parser.add_argument("--source", default="pocket10k", help="dataset that has the photos; its training split is used")
    parser.add_argument("--wplus", required=True, help="folder or checkpoint of the W+ encoder")
    parser.add_argument("--output", type=Path, required=True, help="file of directions to write")
    parser.add_argument("--limit", type=int, default=3000, help="use at most so many photos")
    parser.add_argument("--rows", nargs="*", default=[], metavar="NAME=FIRST:LAST", help="rows of an attribute")
    arguments = parser.parse_args(given)
    try:
        if arguments.limit < 1:
            raise LikenessError(f"--limit is {arguments.limit}, it must be at least 1")
        fingerprint, cache = wplus_fingerprint(arguments.wplus), cache_folder()
        photos = {p.sha256: p for p in load_photos(find_shards(arguments.source), cache) if p.split == "train"}
        found = find_directions(photos, arguments.labels, arguments.wplus, arguments.limit, arguments.rows, cache)
        write_directions(arguments.output, [direction for direction, _ in found], fingerprint)
    except LikenessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'direction':<16} {'rows':>7} {'R^2':>6}   (of the attribute, from these rows, on subjects left out)")
    for direction, told in found:
        print(f"{direction.name:<16} {direction.rows[0]:>3}:{direction.rows[1]:<3} {told:6.3f}")
    for direction, told in found:
        if told <= 0:
            print(f"note: the codes do not tell {direction.name} (R^2 of 0 or less): its direction is of no use")
    print(f"wrote {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Attribute directions in W+: how they are fitted, the file that holds them, and how a code is edited with one.

An edit is w' = w + s * vector on the direction's rows as in InterFaceGAN and GANSpace. W+ Adapter (arXiv
2311.17461) gives w' to its mapper in place of w. The strength s is a number of steps, see :func:`label_steps`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import write_atomically
from contracts.strict_json import parse
from networks.pretrained import first_line

FORMAT = "likeness-directions-1"
LIMIT = 6.0
"""Largest strength in both directions. Codes that are moved further are no longer codes of faces."""
RESERVED = {"mix": "edits mix two people by that name", "__metadata__": "safetensors keeps that name for itself"}
"""Names that no direction can have, each with the reason."""


@dataclass(frozen=True)
class Direction:
    """One attribute's direction."""

    name: str
    rows: tuple[int, int]
    """(first, last), half-open: the rows of a code that it moves."""
    vector: Tensor
    """(last - first, width), or (1, width) for the same step in every row."""

    def apply(self, codes: Tensor, strength: float) -> Tensor:
        """Edited copy of W+ codes (B, rows, width).

        Raises :class:`LikenessError` when the strength is out of range or the direction does not fit the codes.
        """
        if not -LIMIT <= strength <= LIMIT:
            raise LikenessError(f"strength {strength:g} of direction {self.name!r} is not within {-LIMIT:g}..{LIMIT:g}")
        self.check(codes.shape[1], codes.shape[2])
        first, last = self.rows
        edited = codes.clone()
        edited[:, first:last] += strength * self.vector.to(codes)
        return edited

    def check(self, rows: int, width: int) -> None:
        """Raises :class:`LikenessError` unless the direction fits codes of ``rows`` x ``width``."""
        first, last = self.rows
        if not 0 <= first < last <= rows:
            raise LikenessError(f"direction {self.name!r} is for rows {first}:{last}, the codes have {rows} rows")
        if self.vector.ndim != 2 or self.vector.shape[0] not in (1, last - first):
            raise LikenessError(
                f"direction {self.name!r} has a vector of shape {tuple(self.vector.shape)} for rows {first}:{last}: it "
                f"must have {last - first} rows, or one for all"
            )
        if self.vector.shape[1] != width:
            raise LikenessError(f"direction {self.name!r} is {self.vector.shape[1]} wide, the codes are {width} wide")


def check_name(name: str) -> None:
    """Raises :class:`LikenessError` for a name that no edit NAME=STRENGTH could ask for."""
    reason = RESERVED.get(name)
    if not name:
        reason = "it is empty"
    elif name != name.strip() or not name.isprintable():
        reason = "it begins or ends with a blank or holds what cannot be printed"
    elif name.startswith("-") or "=" in name or "," in name:
        reason = "it begins with - or holds = or a comma"
    if reason:
        raise LikenessError(f"{name!r} is no name for a direction ({reason}): rename it")


def check_writable(path: Path) -> None:
    """Raises :class:`LikenessError` where :func:`write_directions` could not write, before anything is computed."""
    reason = None
    try:
        if path.is_dir():
            reason = "it is a folder"
        else:
            folder = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
            if not folder.is_dir():
                reason = f"{str(folder)!r} is no folder"
            elif not os.access(folder, os.W_OK | os.X_OK):
                reason = f"no right to write into {str(folder)!r}"
    except OSError as error:
        reason = first_line(error)
    if reason:
        raise LikenessError(f"directions {str(path)!r} could not be written: {reason}")


def write_directions(path: Path, directions: Sequence[Direction], encoder: str) -> None:
    """Save directions; ``encoder`` is the fingerprint of the W+ encoder in whose space they lie.

    Raises :class:`LikenessError` when the file cannot be written. A file that was there before then stays as it was.
    """
    rows = {direction.name: list(direction.rows) for direction in directions}
    tensors = {direction.name: direction.vector.detach().float().cpu().contiguous() for direction in directions}
    try:
        write_atomically(path, save(tensors, {"format": FORMAT, "rows": json.dumps(rows), "encoder": encoder}))
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"directions {str(path)!r} could not be written: {first_line(error)}") from error


def read_directions(path: Path, encoder: str, rows: int, width: int) -> dict[str, Direction]:
    """The directions of a file by name, for codes of ``rows`` x ``width`` from the encoder with that fingerprint.

    Raises :class:`LikenessError` when the file is no such file or of another encoder, or a direction does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            vectors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        ranges: Mapping[str, Any] = parse(metadata["rows"])
        found = {name: Direction(name, _whole_rows(path, name, r), vectors[name]) for name, r in ranges.items()}
    except FileNotFoundError:
        raise LikenessError(f"no directions at {str(path)!r}: find some with python -m tools.find_directions") from None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise LikenessError(f"{str(path)!r} is no file of directions ({type(error).__name__}: {error})") from None
    if metadata.get("format") != FORMAT:
        raise LikenessError(f"{str(path)!r} is a safetensors file but holds no directions of this framework")
    for direction in found.values():
        direction.check(rows, width)
        if not direction.vector.isfinite().all():
            raise LikenessError(
                f"{str(path)!r}: the vector of direction {direction.name!r} holds NaN or infinity: find the directions "
                "again"
            )
    if metadata.get("encoder") != encoder:
        raise LikenessError(
            f"{str(path)!r} was found for W+ encoder {metadata.get('encoder', 'unknown')[:12]}, this one is "
            f"{encoder[:12]}: find the directions again"
        )
    return found


def _whole_rows(path: Path, name: str, given: Any) -> tuple[int, int]:
    if not isinstance(given, list) or [type(number) for number in given] != [int, int]:
        raise LikenessError(
            f"{str(path)!r}: direction {name!r} has rows {given!r}, expected two whole numbers [FIRST, LAST]: find the "
            "directions again"
        )
    return given[0], given[1]


def label_steps(labels: Tensor) -> Tensor:
    """One step (A,) of each column of ``labels`` (N, A).

    It is the distance between the two values of a column that has two, and the standard deviation of any other.
    """
    two = torch.tensor([len(column.unique()) <= 2 for column in labels.T])
    steps = torch.where(two, labels.double().amax(0) - labels.double().amin(0), labels.double().std(0))
    return steps.clamp(min=1e-12)


def fit_directions(codes: Tensor, labels: Tensor) -> Tensor:
    """What one step of each attribute adds to a code while the others stay: (A, rows, width).

    Least squares of codes (N, rows, width) on all columns of ``labels`` (N, A) and a constant. :func:`label_steps` says
    what one step is.
    """
    x = labels.double() - labels.double().mean(0)
    y = codes.double().flatten(1)
    slopes = torch.linalg.lstsq(x / label_steps(labels), y - y.mean(0), driver="gelsd").solution
    return slopes.float().unflatten(1, codes.shape[1:])

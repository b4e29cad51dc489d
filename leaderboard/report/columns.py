"""From the records of one entry to per-subject sums of every column. The mathematics is that of ``metrics/``."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.records import Interval, Record
from leaderboard.plan.cards import KID_IMAGES
from leaderboard.report.statistics import Ratio
from leaderboard.results.vectors import decode_vectors
from metrics.functional.diversity import diversity_compute, diversity_update
from metrics.functional.kid import kernel_distance
from metrics.functional.vendi import vendi_score

FEATURE = "clip"
SET_COLUMNS = ("kid",)
"""Columns of a whole entry, which have no sums by subject."""
Sums = tuple[NDArray[np.float64], NDArray[np.float64]]


def subject_columns(
    records: Sequence[Record], subjects: Sequence[str], names: Collection[str], samples: int
) -> dict[str, Ratio]:
    """The columns ``names`` that are made of single images or of the samples of one prompt.

    Args:
        records: Of one entry, or of a part of it such as one class of prompts.
        subjects: In the order of the sums; one without records has sums of 0.
        samples: Images per subject and prompt; Vendi counts complete prompts only.

    Raises:
        LikenessError: a record lacks a score that a column needs.
    """
    index = {subject: i for i, subject in enumerate(subjects)}
    rows = np.array([index[record.subject] for record in records], np.int64)
    group_sums = _group_columns(records, rows, len(subjects), samples)
    columns = {}
    for name in names:
        if name in SET_COLUMNS:
            continue
        if name in group_sums:
            columns[name] = Ratio(*group_sums[name])
        else:
            columns[name] = Ratio(*_image_column(name, records, rows, len(subjects)))
    return columns


def set_columns(records: Sequence[Record], photos: NDArray[np.float32] | None) -> dict[str, Interval]:
    """The columns of a whole entry, without an interval.

    Args:
        photos: CLIP features (M, D) of the held-out photos; ``None`` for the ceiling, whose images are such photos.
    """
    if photos is None or len(records) < 2:
        return {"kid": Interval(None, None, None, 0)}
    # Spread over the plan, so that all subjects and prompts take part.
    rows = np.unique(np.linspace(0, len(records) - 1, min(len(records), KID_IMAGES)).round().astype(int))
    distance = kernel_distance(torch.from_numpy(_features([records[i] for i in rows])), torch.from_numpy(photos))
    value = float(distance)
    return {"kid": Interval(value if np.isfinite(value) else None, None, None, len({r.subject for r in records}))}


def counts(records: Sequence[Record]) -> dict[str, int]:
    """What went wrong, or might have, in images: a face that is missing, several, one colour, a prompt cut short."""
    return {
        "images": len(records),
        "without_face": sum(record.face_missed for record in records),
        "several_faces": sum(int(record.details["faces"] or 0) > 1 for record in records),
        "blank": sum(bool(record.details["blank"]) for record in records),
        "prompts_cut": sum(int(record.details["tokens_cut"] or 0) > 0 for record in records),
    }


def _image_column(name: str, records: Sequence[Record], rows: NDArray[np.int64], subjects: int) -> Sums:
    """Sums of a score over the images that have it; the three columns of identity differ in what a miss counts.

    None of them counts images of an object, which has no face to miss.
    """
    score = {"detection_rate": "identity", "identity_given_detection": "identity", "identity_misses_zero": "identity"}
    values = _scores(records, score.get(name, name))
    known = np.isfinite(values)
    top = known.astype(np.float64) if name == "detection_rate" else np.where(known, values, 0.0)
    bottom = known.astype(np.float64)
    if name in ("detection_rate", "identity_misses_zero"):
        bottom = np.array([record.has_face for record in records], np.float64)
    return _sum(rows, top, subjects), _sum(rows, bottom, subjects)


def _scores(records: Sequence[Record], name: str) -> NDArray[np.float64]:
    """A score of every record, NaN where it is ``None``."""
    try:
        return np.array([record.scores[name] for record in records], np.float64)
    except KeyError:
        lacking = next(record.request_id for record in records if name not in record.scores)
        raise LikenessError(f"the record of {lacking} has no score {name}: run `--stage score` again") from None


def _group_columns(
    records: Sequence[Record], rows: NDArray[np.int64], subjects: int, samples: int
) -> Mapping[str, Sums]:
    """Sums over prompts of what is measured on the samples of one subject and prompt."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, record in enumerate(records):
        groups.setdefault((record.subject, record.prompt_id), []).append(i)
    features = torch.from_numpy(_features(records))
    owner = np.array([rows[members[0]] for members in groups.values()], np.int64)
    group_of = torch.zeros(len(records), dtype=torch.int64)
    for g, members in enumerate(groups.values()):
        group_of[members] = g
    spread = diversity_compute(*diversity_update(features, group_of, len(groups))).numpy()
    complete = [members for members in groups.values() if len(members) == samples]
    distinct = np.full(len(groups), np.nan)
    if complete:
        distinct[[len(m) == samples for m in groups.values()]] = vendi_score(features[torch.tensor(complete)]).numpy()
    return {"diversity": _sum_known(spread, owner, subjects), "vendi": _sum_known(distinct, owner, subjects)}


def _sum_known(values: NDArray[np.float64], owner: NDArray[np.int64], subjects: int) -> Sums:
    known = np.isfinite(values)
    return _sum(owner, np.where(known, values, 0.0), subjects), _sum(owner, known.astype(np.float64), subjects)


def _sum(owner: NDArray[np.int64], values: NDArray[np.float64], subjects: int) -> NDArray[np.float64]:
    return np.bincount(owner, values, subjects).astype(np.float64, copy=False)


def _features(records: Sequence[Record]) -> NDArray[np.float32]:
    try:
        return decode_vectors([record.features[FEATURE] for record in records])
    except (KeyError, TypeError, ValueError) as error:
        raise LikenessError(f"a record has no readable feature {FEATURE}: run `--stage score` again") from error

"""Stage 2: every image gets one record, from one decoding, flushed as it is made; a request without one gets one too.

A record counts for as long as the image's bytes and the metrics' versions are those it was made from, so a changed
image or judge is scored again and nothing else is. The samples of one prompt are judged together, as some scores
compare them.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence, Set
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.files import file_sha256
from contracts.protocol import Protocol
from contracts.records import Record, Request
from contracts.settings import JudgeSettings
from leaderboard.processes import on_first, together
from leaderboard.results.anchors import shows_photo
from leaderboard.results.entry import Entry
from leaderboard.results.folder import EntryFolder, Results
from leaderboard.results.image_files import image_bytes, read_image
from leaderboard.results.lines import LineLog
from leaderboard.results.provenance import note_stage
from leaderboard.results.vectors import encode_vector
from metrics.base import Kind
from metrics.gallery import Gallery, left_out_photo, load_galleries
from metrics.judges import JudgedImages, Judges
from metrics.registry import METRICS


def load_judges(settings: JudgeSettings, device: torch.device | str = "cpu") -> Judges:
    """The networks of ``settings``; raises ``LikenessError`` where one is missing."""
    return Judges(**vars(settings), device=device)


def cut_into_groups(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Batches of whole groups, the samples of one subject and prompt, with ``size`` images or one group each.

    A function of the plan and the size, never of what is done or of who does it.
    """
    batches: list[list[Request]] = []
    for _, group in groupby(requests, lambda r: (r.subject, r.prompt_id)):
        samples = list(group)
        if batches and len(batches[-1]) + len(samples) <= size:
            batches[-1] += samples
        else:
            batches.append(samples)
    return batches


def score(fabric: Fabric, results: Results, entry: Entry, judges: Judges, batch_size: int) -> int:
    """Score what has no valid record; every process must call this, also one that will have nothing to score.

    Returns:
        How many images were scored.

    Raises:
        LikenessError: images are missing that the entry should have, or damaged, or were generated under another
            protocol.
    """
    protocol = results.protocol()
    results.check_entry(entry)
    folder = results.entry(entry.label)
    galleries = load_galleries(results.galleries, tuple(protocol.subjects))
    # Nobody writes before everybody has looked, or two processes would see different work.
    missing = {request.id for request in protocol.requests} - {request.id for request in entry.requests(protocol)}
    lacking = together(fabric, lambda: _lacking(protocol, folder, missing))
    planned = [request.id for request in protocol.requests]
    unfinished = [b for b in cut_into_groups(protocol.requests, batch_size) if any(r.id in lacking for r in b)]
    if lacking:
        on_first(fabric, lambda: folder.take_in_shards(planned))
        on_first(fabric, lambda: note_stage(folder, "score", batch_size))
    mine = unfinished[fabric.global_rank :: fabric.world_size]
    total = sum(r.id in lacking - missing for batch in mine for r in batch)

    def score_share() -> None:
        with (
            LineLog(folder.record_log(fabric.global_rank)) as log,
            tqdm(total=total, desc=f"score {entry.label}", unit="image", disable=fabric.global_rank > 0) as bar,
        ):
            for batch in mine:
                there = [request for request in batch if request.id not in missing]
                records = _score(protocol, entry, folder, galleries, judges, there) if there else []
                records += [
                    missing_record(request, galleries[request.subject].has_face, protocol.metrics)
                    for request in batch
                    if request.id in missing
                ]
                new = [record for record in records if record.request_id in lacking]
                log.append(record.to_json() for record in new)
                bar.update(sum(not record.missing for record in new))

    together(fabric, score_share)
    on_first(fabric, lambda: folder.merge_records(planned))
    return len(lacking - missing)


def _lacking(protocol: Protocol, folder: EntryFolder, missing: Set[str]) -> set[str]:
    """The requests without a valid record, and those that they are compared with."""
    records = folder.records()
    lacking: set[str] = set()
    for _, group in groupby(protocol.requests, lambda r: (r.subject, r.prompt_id)):
        requests = list(group)
        hashes = {request.id: "" if request.id in missing else _hash(folder.image(request.id)) for request in requests}
        if not all(_is_scored(protocol, records.get(request_id), found) for request_id, found in hashes.items()):
            lacking |= hashes.keys()
    return lacking


def _hash(path: Path) -> str:
    if not path.is_file():
        raise LikenessError(f"{path} is missing: run `--stage generate` first")
    return file_sha256(path)


def _is_scored(protocol: Protocol, record: Record | None, image_sha256: str) -> bool:
    return record is not None and record.metric_versions == protocol.metrics and record.image_sha256 == image_sha256


def _score(
    protocol: Protocol,
    entry: Entry,
    folder: EntryFolder,
    galleries: Mapping[str, Gallery],
    judges: Judges,
    batch: Sequence[Request],
) -> list[Record]:
    """The records of a batch of whole groups."""
    files = [image_bytes(folder.image(request.id)) for request in batch]
    names = [str(folder.image(request.id)) for request in batch]
    images = np.stack([read_image(d, n, protocol.resolution) for d, n in zip(files, names, strict=True)])
    mine = [galleries[r.subject] for r in batch]
    beside = [None if r.beside is None else galleries[r.beside] for r in batch]
    boxes = None
    if shows_photo(entry.kind):
        photos = [left_out_photo(protocol, galleries, request) for request in batch]
        if not protocol.of_pairs:  # of a photo it is known which face is the subject's
            boxes = np.stack([gallery.boxes[1 + photo] for gallery, photo in zip(mine, photos, strict=True)])
        mine = [gallery.without(photo) for gallery, photo in zip(mine, photos, strict=True)]
        beside = [
            gallery and gallery.without(left_out_photo(protocol, galleries, request, request.beside))
            for gallery, request in zip(beside, batch, strict=True)
        ]
    judged = JudgedImages.judge(judges, images, batch, mine, protocol.subjects, boxes, beside)
    return make_records(judged, [hashlib.sha256(file).hexdigest() for file in files], protocol.metrics)


def make_records(judged: JudgedImages, hashes: Sequence[str], versions: Mapping[str, str]) -> list[Record]:
    """The records of judged images: what the metrics named in ``versions`` score, and what explains it.

    Args:
        hashes: SHA-256 of each image's file.
        versions: Version string by metric name.
    """
    rows = {name: METRICS[name].rows(judged) for name in versions}
    scores = {name: values.tolist() for name, values in rows.items() if not METRICS[name].feature}
    features = {METRICS[name].feature: rows[name] for name in versions if METRICS[name].feature}
    faces = judged.seen.judged
    return [
        Record(
            request_id=request.id,
            subject=request.subject,
            prompt_id=request.prompt_id,
            prompt_class=request.prompt_class,
            sample=request.sample,
            image_sha256=hashes[i],
            metric_versions=dict(versions),
            scores={name: None if math.isnan(values[i]) else values[i] for name, values in scores.items()},
            details={
                "faces": int(faces.counts[i]),
                "subject_has_face": judged.galleries[i].has_face,
                "detector_rung": faces.attempts[i],
                "tokens_cut": judged.tokens_cut[i],
                "blank": bool(judged.images[i].min() == judged.images[i].max()),
                **_second(request),
            },
            features={name: encode_vector(vectors[i]) for name, vectors in features.items()},
        )
        for i, request in enumerate(judged.requests)
    ]


def missing_record(request: Request, has_face: bool, versions: Mapping[str, str]) -> Record:
    """The record of a request without an image: what the metrics named in ``versions`` say of one, and no features."""
    kind: Kind = "people" if has_face else "objects"
    scored = [METRICS[name] for name in versions if not METRICS[name].feature]
    return Record(
        request_id=request.id,
        subject=request.subject,
        prompt_id=request.prompt_id,
        prompt_class=request.prompt_class,
        sample=request.sample,
        image_sha256="",
        metric_versions=dict(versions),
        scores={metric.name: metric.missing if kind in metric.kinds else None for metric in scored},
        details={
            "faces": 0,
            "subject_has_face": has_face,
            "detector_rung": None,
            "tokens_cut": 0,
            "blank": False,
            "missing": True,
            **_second(request),
        },
    )


def _second(request: Request) -> dict[str, str]:
    """The second subject of an image of two."""
    return {} if request.beside is None else {"beside": request.beside}

"""Stage 2: every image gets one record, from one decoding, flushed as it is made.

A record counts for as long as the image's bytes and the metrics' versions are those it was made from, so a changed
image or judge is scored again and nothing else is.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from lightning.fabric import Fabric
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.records import Record, Request
from leaderboard.entries import left_out_photo
from leaderboard.galleries import Gallery, load_galleries
from leaderboard.generation import cut_into_batches
from leaderboard.judges import Judges
from leaderboard.pictures import read_picture
from leaderboard.processes import on_first, together
from leaderboard.protocol import Protocol, plain_prompt
from leaderboard.results import Entry, EntryFolder, LineLog, Results


def score(fabric: Fabric, results: Results, entry: Entry, judges: Judges, batch_size: int) -> int:
    """Score what has no valid record; every process must call this, also one that will have nothing to score.

    Returns:
        How many images were scored.

    Raises:
        LikenessError: images are missing or damaged, or the judges are not the protocol's.
    """
    protocol = results.protocol()
    folder = results.entry(entry.label)
    if judges.versions != protocol.metrics:
        raise LikenessError(f"{results.root} was planned with other judges: take another --output")
    galleries = load_galleries(results.galleries, tuple(protocol.subjects))
    # Nobody writes before everybody has looked, or two processes would see different work.
    lacking = together(fabric, lambda: _lacking(protocol, folder))
    unfinished = [b for b in cut_into_batches(protocol.requests, batch_size) if any(r.id in lacking for r in b)]
    mine = unfinished[fabric.global_rank :: fabric.world_size]
    total = sum(r.id in lacking for batch in mine for r in batch)

    def judge_share() -> None:
        with (
            LineLog(folder.record_log(fabric.global_rank)) as log,
            tqdm(total=total, desc=f"score {entry.label}", unit="image", disable=fabric.global_rank > 0) as bar,
        ):
            for batch in mine:
                records = _judge(protocol, entry, folder, galleries, judges, batch)
                new = [record.to_json() for record in records if record.request_id in lacking]
                log.append(new)
                bar.update(len(new))

    together(fabric, judge_share)
    on_first(fabric, lambda: folder.merge_records([request.id for request in protocol.requests]))
    return len(lacking)


def _lacking(protocol: Protocol, folder: EntryFolder) -> set[str]:
    """The requests whose image has no valid record."""
    records = folder.records()
    lacking = set()
    for request in protocol.requests:
        path = folder.image(request.id)
        if not path.is_file():
            raise LikenessError(f"{path} is missing: run `--stage generate` first")
        record = records.get(request.id)
        if record is None or record.metric_versions != protocol.metrics or record.image_sha256 != _sha256(path):
            lacking.add(request.id)
    return lacking


def _judge(
    protocol: Protocol,
    entry: Entry,
    folder: EntryFolder,
    galleries: Mapping[str, Gallery],
    judges: Judges,
    batch: Sequence[Request],
) -> list[Record]:
    files = [folder.image(request.id).read_bytes() for request in batch]
    names = [str(folder.image(request.id)) for request in batch]
    images = np.stack([read_picture(d, n, protocol.resolution) for d, n in zip(files, names, strict=True)])
    means = [
        galleries[r.subject].mean(left_out_photo(protocol, galleries, r) if entry.kind == "ceiling" else None)
        for r in batch
    ]
    scored = judges.score(
        images,
        [plain_prompt(request.prompt, protocol.subjects[request.subject]) for request in batch],
        np.stack(means),
        np.stack([galleries[request.subject].reference for request in batch]),
    )
    return [
        Record(
            request_id=request.id,
            subject=request.subject,
            prompt_id=request.prompt_id,
            prompt_class=request.prompt_class,
            sample=request.sample,
            image_sha256=hashlib.sha256(data).hexdigest(),
            metric_versions=dict(protocol.metrics),
            scores=one.scores,
            details={**one.details, "blank": bool(image.min() == image.max())},
            features=one.features,
        )
        for request, data, image, one in zip(batch, files, images, scored, strict=True)
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

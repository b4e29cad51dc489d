"""Stage 2: every image gets one record, from one decoding, flushed as it is made.

A record counts for as long as the image's bytes and the metrics' versions are those it was made from, so a changed
image or judge is scored again and nothing else is. The samples of one prompt are judged together, as some scores
compare them.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import torch
from lightning.fabric import Fabric
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.files import file_sha256
from contracts.prompts import plain_prompt
from contracts.protocol import Protocol
from contracts.records import Record, Request
from contracts.settings import JudgeSettings
from leaderboard.plan.entries import left_out_photo
from leaderboard.processes import on_first, together
from leaderboard.results.folder import Entry, EntryFolder, LineLog, Results
from leaderboard.results.galleries import load_galleries
from leaderboard.results.image_files import read_picture
from leaderboard.results.provenance import note_stage
from leaderboard.results.vectors import encode_vector
from metrics.gallery import Gallery
from metrics.judges import Judges, leakage, likeness

DECIMALS = 7  # as precise as the networks' float32
FEATURE = "clip"
"""The feature that metrics of whole sets compare: diversity, Vendi, KID."""
NEUTRAL = "a photo of a {noun}"
"""What the edit margin compares a prompt with."""


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
        LikenessError: images are missing or damaged, or were drawn under another protocol.
    """
    protocol = results.protocol()
    results.check_entry(entry)
    folder = results.entry(entry.label)
    galleries = load_galleries(results.galleries, tuple(protocol.subjects))
    # Nobody writes before everybody has looked, or two processes would see different work.
    lacking = together(fabric, lambda: _lacking(protocol, folder))
    planned = [request.id for request in protocol.requests]
    unfinished = [b for b in cut_into_groups(protocol.requests, batch_size) if any(r.id in lacking for r in b)]
    if lacking:
        on_first(fabric, lambda: folder.take_in_shards(planned))
        on_first(fabric, lambda: note_stage(folder, "score", batch_size))
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
    on_first(fabric, lambda: folder.merge_records(planned))
    return len(lacking)


def _lacking(protocol: Protocol, folder: EntryFolder) -> set[str]:
    """The requests whose image has no valid record, and those that they are compared with."""
    records = folder.records()
    lacking: set[str] = set()
    for _, group in groupby(protocol.requests, lambda r: (r.subject, r.prompt_id)):
        requests = list(group)
        if not all(_is_scored(protocol, folder, records.get(request.id), request) for request in requests):
            lacking |= {request.id for request in requests}
    return lacking


def _is_scored(protocol: Protocol, folder: EntryFolder, record: Record | None, request: Request) -> bool:
    path = folder.image(request.id)
    if not path.is_file():
        raise LikenessError(f"{path} is missing: run `--stage generate` first")
    return (
        record is not None and record.metric_versions == protocol.metrics and record.image_sha256 == file_sha256(path)
    )


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
    mine = [galleries[r.subject] for r in batch]
    if entry.kind == "ceiling":
        mine = [g.without(left_out_photo(protocol, galleries, r)) for g, r in zip(mine, batch, strict=True)]
    nouns = [protocol.subjects[request.subject] for request in batch]
    texts = [plain_prompt(request.prompt, request.subject, protocol.subjects) for request in batch]
    seen = judges.observe(images)
    fit, cut = judges.fit(seen, texts)
    columns = {
        **likeness(seen, mine),
        "clip_t": fit,
        "edit_margin": judges.margin(seen, texts, [NEUTRAL.format(noun=noun) for noun in nouns]),
        **leakage(seen, mine, texts),
    }
    if judges.lpips:
        columns["lpips_diversity"] = judges.distances(images, [(r.subject, r.prompt_id) for r in batch])
    scores = {name: [_number(value) for value in values.tolist()] for name, values in columns.items()}
    return [
        Record(
            request_id=request.id,
            subject=request.subject,
            prompt_id=request.prompt_id,
            prompt_class=request.prompt_class,
            sample=request.sample,
            image_sha256=hashlib.sha256(files[i]).hexdigest(),
            metric_versions=dict(protocol.metrics),
            scores={name: values[i] for name, values in scores.items()},
            details={
                "faces": int(seen.judged.counts[i]),
                "subject_has_face": mine[i].has_face,
                "detector_rung": seen.judged.attempts[i],
                "tokens_cut": cut[i],
                "blank": bool(images[i].min() == images[i].max()),
            },
            features={FEATURE: encode_vector(seen.features[FEATURE][i])},
        )
        for i, request in enumerate(batch)
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DECIMALS)

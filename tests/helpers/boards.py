"""Made-up results for tests of tables and page: real files in a real folder, with scores of our choosing."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from contracts.files import file_sha256, write_json
from contracts.protocol import Protocol
from leaderboard.report.board import make_leaderboard
from leaderboard.report.page.render import render_page
from leaderboard.report.scored import read_scored
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.image_files import write_image
from leaderboard.results.lines import json_line
from leaderboard.results.vectors import encode_vector
from metrics.base import Kind
from metrics.card import MetricCard, versions
from metrics.registry import METRICS
from tests.leaderboard.test_protocol import make_protocol

KINDS = {"real-photo": "ceiling", "ours": "method", "theirs": "method", "prompt-only": "floor"}
IDENTITY = {"real-photo": 0.9, "ours": 0.5, "theirs": 0.3, "prompt-only": 0.1}
COPYING = {"real-photo": -0.6, "ours": 0.2, "theirs": 0.1}
"""Of people and of objects; ``OBJECTS`` is how alike those are."""
OBJECTS = {"real-photo": 0.8, "ours": 0.6, "theirs": 0.7, "prompt-only": 0.4}
FIT = {"real-photo": 0.1, "ours": 0.24, "theirs": 0.26, "prompt-only": 0.25}
MISSED = "s2.hat.00"
SIX = {f"s{i}": "person" for i in range(1, 7)}
"""Subjects enough for intervals and tests; a protocol has two where nothing is said."""
MANIFEST = {
    "method": "SpotDiff",
    "enrol_seconds": 0.5,
    "trainable_parameters": 1234,
    "peak_memory_bytes": 2_000_000_000,
}
THEIRS = {
    "method": "SeFi-IDE",
    "enrol_seconds": 0.02,
    "trainable_parameters": 99,
    "peak_memory_bytes": 1_000_000_000,
}
"""A cheaper method, which is worse at identity: each of the two is on the Pareto front of every plot."""
MEASURED = {
    "detection_rate": "identity",
    "identity_given_detection": "identity",
    "identity_misses_zero": "identity",
    "copy_paste": "identity",
    "subject_likeness": "subject",
    "subject_copy_paste": "subject",
    "clip_t": "text",
    "edit_margin": "text",
    "diversity": "diversity",
    "kid": "distribution",
}


HEADLINE = ("detection_rate", "identity_misses_zero", "clip_t", "diversity")


def cards(kinds: Collection[Kind] = ("people",)) -> tuple[MetricCard, ...]:
    """Cards of a few of the real columns, with the directions that tests rely on."""
    return tuple(
        MetricCard(
            name=name,
            title=name.replace("_", " "),
            group=group,
            version=f"{name}@x|1",
            backbone="none",
            backbone_hash="0" * 64,
            preprocessing="none",
            higher_is_better=name != "kid" and not name.endswith("copy_paste"),
            low=1.0 if name == "diversity" else None,
            high=None,
            source="tests",
            about=f"what {name} says",
            headline=name in HEADLINE or name.endswith("copy_paste") or name == "subject_likeness",
            by_class=name == "edit_margin",
            guards=METRICS[name].guards,
        )
        for name, group in MEASURED.items()
        if METRICS[name].kinds & set(kinds)
    )


def make_results(
    root: Path, kinds: Mapping[str, str] = KINDS, missed: str = MISSED, objects: Collection[str] = (), **changes: object
) -> Results:
    """A finished evaluation without a report.

    Args:
        missed: The request in whose image ``ours`` shows no face.
        objects: Subjects that have no face.
        changes: Fields of the protocol.
    """
    results = Results(root)
    protocol: Protocol = make_protocol(**changes)
    shown: set[Kind] = {"objects" if subject in objects else "people" for subject in protocol.subjects}
    protocol = replace(protocol, metrics=versions(cards(shown)))
    results.write_protocol(protocol)
    write_json(results.cards, [card.to_json() for card in cards(shown)])
    rng = np.random.default_rng(0)
    save_file({f"{s}/held_out/clip": _unit(rng, 3) for s in protocol.subjects}, results.galleries)
    for subject in protocol.subjects:
        write_image(results.reference(subject), _grey(rng), {})
    for label, kind in kinds.items():
        folder = results.entry(label)
        method = kind == "method"
        manifest = THEIRS if label == "theirs" else MANIFEST
        folder.claim(Entry(label, kind, label if method else "", manifest if method else None))
        lines = []
        for request in protocol.requests:
            image = _grey(rng)
            write_image(folder.image(request.id), image, {})
            has_face = request.subject not in objects
            seen = has_face and not (label == "ours" and request.id == missed)
            subject = list(protocol.subjects).index(request.subject)
            identity = IDENTITY.get(label, 0.4) + 0.01 * subject + 0.002 * rng.standard_normal()
            copying = COPYING.get(label, 0.0) + 0.01 * subject
            record = {
                "request_id": request.id,
                "subject": request.subject,
                "prompt_id": request.prompt_id,
                "prompt_class": request.prompt_class,
                "sample": request.sample,
                "image_sha256": file_sha256(folder.image(request.id)),
                "metric_versions": dict(protocol.metrics),
                "scores": {
                    "detection_rate": float(seen) if has_face else None,
                    "identity_given_detection": identity if seen else None,
                    "identity_misses_zero": (identity if seen else 0.0) if has_face else None,
                    "identity_to_reference": identity if seen else None,
                    "copy_paste": copying if seen else None,
                    "subject_likeness": None if has_face else OBJECTS.get(label, 0.5) + 0.01 * subject,
                    "subject_copy_paste": None if has_face else copying,
                    "clip_t": FIT.get(label, 0.2),
                    "edit_margin": FIT.get(label, 0.2) - 0.2,
                },
                "details": {"faces": int(seen), "subject_has_face": has_face, "tokens_cut": 0, "blank": False},
                "features": {"clip": encode_vector(_unit(rng, 1)[0])},
            }
            lines.append(json_line(record))
        (folder.root / "records.jsonl").write_text("".join(lines))
    return results


def make_board(root: Path, **changes: object) -> tuple[Results, dict]:
    """A made-up evaluation and its board."""
    results = make_results(root, **changes)  # type: ignore[arg-type]
    assert not read_scored(results).notes
    return results, board_of(results)


def board_of(results: Results) -> dict:
    """The board of what a folder holds now."""
    return make_leaderboard(results, read_scored(results))


def page_of(results: Results, board: Mapping, **settings: int) -> str:
    """The page of a board, and of the records that the folder holds now."""
    return render_page(results, board, read_scored(results).records, **settings)


def _grey(rng: np.random.Generator) -> np.ndarray:
    return np.full((64, 64, 3), rng.integers(40, 220), np.uint8)


def _unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

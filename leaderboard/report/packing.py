"""The files of a results folder that make its report again, without what the report takes little of."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import read_file
from leaderboard.report.board import anchors
from leaderboard.report.drift import distance
from leaderboard.report.page.contact_sheets import choose, thumbnail
from leaderboard.report.scored import Scored, read_entries, read_scored
from leaderboard.results.anchors import FLOOR
from leaderboard.results.folder import EntryFolder, Results
from leaderboard.results.image_files import image_bytes
from leaderboard.results.lines import json_line
from leaderboard.results.packed import NAME, KeptEntry, Packed
from metrics.registry import METRICS

_COMMON = ("protocol.json", "metrics.json", "sources.json", "descriptions.json", "calibration.json")
_OF_ENTRY = ("entry.json", "stages.json", "timings/*.json*")


def packed_files(results: Results) -> dict[str, bytes]:
    """What is packed of a finished evaluation, by its path in the folder.

    Records are packed without features. The images that the page shows are packed as its thumbnails.

    Raises:
        LikenessError: the folder holds no complete results, or packed ones.
    """
    if results.packed:
        raise LikenessError(f"{results.root} holds packed results: pack the folder that they were made from")
    shown = dict(_pictures(results))  # first, as it takes complete results
    found = _of_folder(results, drift=False)
    if results.nobody.cards.is_file():
        found |= {f"nobody/{name}": data for name, data in _of_folder(results.nobody, drift=True).items()}
    return found | shown


def _of_folder(results: Results, drift: bool) -> dict[str, bytes]:
    found = {name: read_file(results.root / name) for name in _COMMON if (results.root / name).is_file()}
    for entry in results.entries():
        folder = results.entry(entry.label)
        for path in sorted(path for pattern in _OF_ENTRY for path in folder.root.glob(pattern)):
            found[_name(results, path)] = read_file(path)
        found[_name(results, folder.root / "records.jsonl")] = "".join(_lines(folder)).encode()
    scored, _ = read_entries(results)
    floor = next((one for one in scored if one.entry.kind == FLOOR.kind), None) if drift else None
    packed = Packed(results.photos_hash(), {one.entry.label: _kept(one, floor) for one in scored})
    found[NAME] = json_line(packed.to_json()).encode()
    return found


def _lines(folder: EntryFolder) -> Iterator[str]:
    """The records in the order of the plan, without features."""
    records = folder.records()
    for request in folder.results.protocol().requests:
        if request.id in records:
            yield json_line(replace(records[request.id], features={}).to_json())


def _kept(one: Scored, floor: Scored | None) -> KeptEntry:
    """Of prompts that name nobody the board has the drift from ``floor``, the base model's entry; without ``floor`` it
    is the board's own entry."""
    if floor:
        return KeptEntry(one.folder.records_hash(), drift=distance(one, floor))
    sums = {
        name: {metric: column for metric, column in columns.items() if METRICS[metric].feature}
        for name, columns in one.by_class.items()
    }
    return KeptEntry(one.folder.records_hash(), sums, one.whole())


def _pictures(results: Results) -> Iterator[tuple[str, bytes]]:
    """The thumbnails of the page's contact sheets. Raises ``LikenessError`` without a complete floor and ceiling."""
    scored = read_scored(results)
    anchors(results, scored)
    choice = choose(results.protocol(), len(scored.rows))
    prompts = {prompt.id for prompt in choice.prompts}
    paths = [results.reference(subject) for subject in choice.subjects]
    for label, records in scored.records.items():
        paths += [
            results.entry(label).image(record.request_id)
            for record in records.values()
            if record.subject in choice.subjects
            and record.prompt_id in prompts
            and record.sample < choice.samples
            and not record.missing
        ]
    for path in paths:
        yield _name(results, path.with_suffix(".webp")), thumbnail(image_bytes(path), str(path))


def _name(results: Results, path: Path) -> str:
    return path.relative_to(results.root).as_posix()

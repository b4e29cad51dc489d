"""Whether a results folder still is what it says: images, records, photos and weights against their hashes."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import file_sha256
from contracts.protocol import Protocol
from contracts.settings import EvaluationSettings
from leaderboard.images.folder import open_folder
from leaderboard.images.taking import ImagesEntry
from leaderboard.loras import folder as loras
from leaderboard.report.board import make_leaderboard
from leaderboard.report.scored import read_scored
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.lines import read_json
from lightning_modules.run import Run
from networks.fingerprints import file_fingerprint, folder_fingerprint, resolve_source


@dataclass
class Verdict:
    """What a check found: ``problems``, what could not be checked, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    entries: int = 0
    images: int = 0
    weights: int = 0

    @property
    def summary(self) -> str:
        """One line for a folder in which nothing is wrong."""
        return (
            f"verified: {self.entries} entries, {self.images} images with their records, {self.weights} weights, "
            "and the leaderboard that follows from them"
        )


def source_fingerprints(settings: EvaluationSettings) -> dict[str, dict[str, str]]:
    """Where base model and judges lie, and their fingerprints, by configuration key."""
    sources = {"protocol.backbone": settings.protocol.backbone}
    sources |= {f"judges.{name}": source for name, source in settings.judges.sources.items()}
    return {key: {"source": source, "sha256": _fingerprint(source)} for key, source in sources.items() if source}


def tell(folder: str) -> int:
    """Check the results in ``folder`` and print what was found: 0 if all is as it was, 1 after a line for each thing
    that is not."""
    verdict = verify(Results(folder))
    for note in verdict.unchecked:
        print(f"note: not checked: {note}")
    for problem in verdict.problems:
        print(f"wrong: {problem}")
    if not verdict.problems:
        print(verdict.summary)
    return min(1, len(verdict.problems))


def verify(results: Results) -> Verdict:
    """Check everything that the folder has a hash for, and that the written leaderboard follows from the records.

    Raises:
        LikenessError: the folder holds no results, or a file of it is damaged beyond reading.
    """
    verdict = Verdict()
    protocol = results.protocol()
    if results.packed:
        verdict.unchecked.append(f"images, galleries and features: {results.root} holds packed results, without them")
    verdict.problems += _check_entries(results, protocol, verdict)
    if results.nobody.cards.is_file():
        verdict.problems += _check_entries(results.nobody, results.nobody.protocol(), verdict)
    _check_weights(results, protocol, verdict)
    verdict.problems += _check_board(results)
    verdict.problems = list(dict.fromkeys(verdict.problems))  # the board is made of the records that were read before
    return verdict


def _check_entries(results: Results, protocol: Protocol, verdict: Verdict) -> Iterator[str]:
    for entry in results.entries():
        verdict.entries += 1
        if results.packed:
            continue
        verdict.images += len(entry.requests(protocol))
        yield from _check_images(results, entry, protocol)


def _check_images(results: Results, entry: Entry, protocol: Protocol) -> Iterator[str]:
    folder, planned = results.entry(entry.label), [request.id for request in entry.requests(protocol)]
    try:
        records = folder.records()
    except LikenessError as error:
        yield str(error)
        return
    for request_id in planned:
        path = folder.image(request_id)
        if not path.is_file():
            yield f"{path} is missing"
        elif request_id not in records:
            yield f"{path} has no record"
        elif file_sha256(path) != records[request_id].image_sha256:
            yield f"{path} is not the image that was scored"
    for path in sorted(folder.root.glob("images/[!.]*.png")):
        if path.stem not in planned:
            yield f"{path} is not in the plan"


def _check_weights(results: Results, protocol: Protocol, verdict: Verdict) -> None:
    written = {}
    if results.sources.is_file():
        written = read_json(results.sources)
    else:
        verdict.unchecked.append(f"weights of base model and judges: {results.sources} is missing")
    known: dict[str, tuple[Callable[[str], str], str, str]]
    try:
        known = {
            f"weights of {key}": (_fingerprint, str(place["source"]), str(place["sha256"]))
            for key, place in written.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise LikenessError(f"{results.sources} is damaged ({type(error).__name__}: {error}): restore it") from error
    for entry in results.entries():
        if entry.images:
            known[f"images of {entry.label}"] = (partial(_images_hash, entry, protocol), entry.folder, entry.weights)
        elif entry.lora:
            known[f"LoRAs of {entry.label}"] = (partial(_loras_hash, entry, protocol), entry.folder, entry.weights)
        elif entry.weights:
            run = Run.named(entry.folder)
            adapter_hash = partial(_adapter_hash, run, entry.weights)
            known[f"weights of {entry.label}"] = (adapter_hash, str(run.adapter_file), entry.weights)
            verdict.problems += _check_settings(entry)
    for name, (fingerprint_of, source, fingerprint) in known.items():
        try:
            found = fingerprint_of(source)
        except (LikenessError, OSError):
            verdict.unchecked.append(f"{name}: {source} is not on this machine")
            continue
        verdict.weights += 1
        if found != fingerprint:
            verdict.problems.append(
                f"{name}: {source} is {found[:12] or 'something else'} now, the results are of {fingerprint[:12]}"
            )


def _check_settings(entry: Entry) -> Iterator[str]:
    run = Run.named(entry.folder)
    if entry.settings and run.config_file.is_file():
        try:
            found = entry.run().settings_hash
        except LikenessError as error:
            yield str(error)
            return
        if found != entry.settings:
            yield f"{run.config_file} has other model settings than the images of {entry.label} were generated with"


def _check_board(results: Results) -> Iterator[str]:
    path = results.root / "leaderboard.json"
    if not path.is_file():
        yield f"{path} is missing: run `--stage report`"
        return
    written = read_json(path)
    try:
        board = make_leaderboard(results, read_scored(results))
    except LikenessError as error:
        yield str(error)
        return
    board = json.loads(json.dumps(board))
    try:
        photos = written["protocol"].get("photos_sha256")
        hashes = {entry["label"]: entry["records_sha256"] for entry in written["entries"]}
    except (AttributeError, KeyError, TypeError) as error:
        yield f"{path} is damaged ({type(error).__name__}: {error}): run `--stage report`"
        return
    if photos != board["protocol"]["photos_sha256"]:
        yield f"{results.galleries} or a photo in {results.root / 'references'} was changed"
    for entry in board["entries"]:
        if entry["label"] in hashes and hashes[entry["label"]] != entry["records_sha256"]:
            yield f"{results.entry(entry['label']).root / 'records.jsonl'} was changed after the report"
    if written != board:
        yield f"{path} does not follow from the records: run `--stage report`"


def _fingerprint(source: str) -> str:
    """What is there now, whatever a manifest beside it says should be there; raises where nothing is."""
    path = Path(source)
    if path.is_file():
        return file_fingerprint(path)
    return folder_fingerprint(path if path.is_dir() else resolve_source(source))


def _adapter_hash(run: Run, noted: str, source: str) -> str:
    """``noted`` where it is a hash of what is there now, else the hash of that."""
    file_hash = file_sha256(Path(source))
    try:
        return noted if run.is_adapter(noted) else run.adapter_sha256
    except LikenessError:  # it is there, but damaged
        return file_hash


def _loras_hash(entry: Entry, protocol: Protocol, source: str) -> str:
    """The hash over the LoRAs that are in the folder now; empty where they cover the subjects no more."""
    if not Path(source).is_dir():
        raise LikenessError(f"there is no folder {source}")
    with suppress(LikenessError, KeyError):
        return loras.open_folder(entry.label, Path(source)).weights(list(protocol.subjects), protocol.subjects)
    return ""


def _images_hash(entry: Entry, protocol: Protocol, source: str) -> str:
    """The hash over the images that are in the folder now; empty where they answer no request any more."""
    if not Path(source).is_dir():
        raise LikenessError(f"there is no folder {source}")
    with suppress(LikenessError):
        return ImagesEntry(open_folder(entry.label, Path(source)), entry.kind, allow_missing=1.0).weights(protocol)
    return ""

"""One results folder: what lies where, and how it is written so that nothing is ever half there.

protocol.json            the protocol and its hash
requests.jsonl           what another program must know to make the images, a line for each
metrics.json             the card of every column
galleries.safetensors    face embeddings of every subject's reference and held-out photos
descriptions.json        what the row `described` is told of each subject, where the dataset says it
references/SUBJECT.png   the photo that methods see; SUBJECT.2.png and on where they see several
entries/LABEL/           entry.json, images/REQUEST.png, records.jsonl, and what ranks append while they work;
                         stages.json and timings/, which may differ from run to run
calibration.json         what the judges made of photos with spoilt faces
sources.json             where base model and judges lay, and their fingerprints
nobody/                  a results folder of prompts that name nobody, for drift, where it is asked for
packed.json              only in packed results: what stands for images, galleries and features, which are left out
leaderboard.*, grid.png  the report, a function of all of the above
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path

from safetensors import safe_open

from contracts.errors import LikenessError
from contracts.files import guard, open_to_read, read_file, remove, write_atomically, write_json
from contracts.protocol import Protocol
from contracts.records import Record
from leaderboard.results.entry import Entry
from leaderboard.results.lines import MEND, lines_at, numbered_lines, read_json
from leaderboard.results.packed import NAME as PACKED
from leaderboard.results.packed import KeptEntry, Packed, read_packed
from leaderboard.results.record_reader import RecordReader
from lightning_modules.run import Run


class Results:
    """The results folder at ``root``; raises ``LikenessError`` for a file, such as packed results."""

    def __init__(self, root: str | Path) -> None:
        self.root = guard(root)
        if self.root.is_file():
            raise LikenessError(
                f"{self.root} is a file and no results folder: packed results are unpacked by "
                "`python -m tools.archive_results unpack`"
            )
        self.cards = self.root / "metrics.json"
        self.galleries = self.root / "galleries.safetensors"
        self.sources = self.root / "sources.json"
        self.descriptions = self.root / "descriptions.json"
        self.calibration = self.root / "calibration.json"

    @cached_property
    def packed(self) -> Packed | None:
        """What stands for what was left out, where these are packed results."""
        there = (self.root / PACKED).is_file()
        return read_packed(self.root / PACKED, self.protocol()) if there else None

    @property
    def nobody(self) -> "Results":
        """The results of prompts that name nobody; the folder need not be there."""
        return Results(self.root / "nobody")

    def reference(self, subject: str, number: int = 0) -> Path:
        """Where a subject's reference photo of that ``number`` lies; a subject's id has no dots."""
        return self.root / "references" / (f"{subject}.png" if number == 0 else f"{subject}.{number + 1}.png")

    def references(self, subject: str) -> list[Path]:
        """Where all of a subject's references lie."""
        return [self.reference(subject, number) for number in range(self.protocol().references or 1)]

    def protocol(self) -> Protocol:
        """The folder's protocol; raises ``LikenessError`` if the folder has none."""
        path = self.root / "protocol.json"
        if not path.is_file():
            raise LikenessError(f"{self.root} holds no results: run `--stage generate` first")
        return Protocol.from_json(read_json(path))

    def check(self, protocol: Protocol) -> None:
        """Raise ``LikenessError`` if the folder holds results of another protocol, packed ones to which nothing can be
        added, or something else altogether.

        Dot files do not count: a process that is killed in its first write leaves one.
        """
        if self.packed:
            raise LikenessError(
                f"{self.root} holds packed results, without the images and galleries that others could be judged "
                "beside: take another --output"
            )
        if (self.root / "protocol.json").is_file():
            found = self.protocol()
            if found.hash != protocol.hash:
                names = [f.name for f in fields(Protocol) if getattr(found, f.name) != getattr(protocol, f.name)]
                raise LikenessError(
                    f"{self.root} holds results of protocol {found.hash}, not of {protocol.hash} "
                    f"({', '.join(names)} changed): take another --output"
                )
        elif self.root.exists() and (not self.root.is_dir() or any(self.root.glob("[!.]*"))):
            raise LikenessError(f"{self.root} is neither empty nor a results folder: take another --output")

    def photos_hash(self) -> str:
        """SHA-256 over what all entries are judged against: the reference photos, and what the galleries hold.

        A gallery file's header has no fixed order, so its contents are hashed and not its bytes.
        """
        if self.packed:
            return self.packed.photos_sha256
        digest = hashlib.sha256()
        for path in sorted(self.root.glob("references/[!.]*.png")):
            digest.update(path.name.encode() + b"\0" + read_file(path))
        open_to_read(self.galleries).close()
        with safe_open(self.galleries, "numpy") as file:
            digest.update(json.dumps(file.metadata(), sort_keys=True).encode())
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                digest.update(f"{name}{tensor.dtype}{tensor.shape}".encode() + tensor.tobytes())
        return digest.hexdigest()

    def judged_by(self) -> str:
        """SHA-256 over the metrics' versions and over what all entries are judged against."""
        versions = json.dumps(self.protocol().metrics, sort_keys=True)
        return hashlib.sha256(f"{versions}\0{self.photos_hash()}".encode()).hexdigest()

    def write_protocol(self, protocol: Protocol) -> None:
        """Make this the folder of ``protocol``."""
        write_json(self.root / "protocol.json", protocol.to_json())

    def entry(self, label: str) -> "EntryFolder":
        """The folder of one entry, which need not exist yet."""
        return EntryFolder(self, label)

    def entries(self) -> list[Entry]:
        """The entries that the folder knows, by label."""
        return [Entry.read(path) for path in sorted(self.root.glob("entries/*/entry.json"))]

    def check_entry(self, entry: Entry) -> None:
        """Raise ``LikenessError`` if an entry's images were generated under another protocol than this folder's."""
        if entry.protocol != (here := self.protocol().hash):
            raise LikenessError(
                f"{entry.label} was generated under protocol {entry.protocol or 'unknown'}, {self.root} is of {here}: "
                f"remove {self.entry(entry.label).root}"
            )


class EntryFolder:
    """Images and records of one entry of ``results``."""

    def __init__(self, results: Results, label: str) -> None:
        self.results = results
        self.root = results.root / "entries" / label
        self.entry_file = self.root / "entry.json"

    @property
    def kept(self) -> KeptEntry | None:
        """What stands for the features of its records, where these are packed results."""
        return self.results.packed.entries.get(self.root.name) if self.results.packed else None

    def known(self) -> Entry | None:
        """The entry that the folder was claimed for; ``None`` before."""
        return Entry.read(self.entry_file) if self.entry_file.is_file() else None

    def claim(self, entry: Entry) -> None:
        """Make this the folder of ``entry`` under the protocol of the results.

        Raises:
            LikenessError: its images come from other weights or settings, or were generated under another protocol.
        """
        settings, knob = entry.settings, entry.knob
        if found := self.known():
            knob = knob or found.knob  # a point of a sweep stays one
            self.results.check_entry(found)
            instead = "give it another label with LABEL=FOLDER, or take another --output"
            same = entry.images is None and not entry.lora and Run.named(entry.folder).is_adapter(found.weights)
            if found.weights != entry.weights and not same:
                given = entry.images is not None or entry.lora
                those = f"other files than {entry.folder} holds now" if given else "other weights"
                raise LikenessError(
                    f"{self.root} holds images of {those} ({found.weights[:12]}, now {entry.weights[:12]}): {instead}, "
                    "or remove that folder"
                )
            settings = found.settings  # where it was not noted, nobody knows
            if settings and settings != entry.settings:
                raise LikenessError(
                    f"{self.root} holds images generated with other model settings than those in "
                    f"{Path(entry.folder) / 'config.yaml'}: {instead}"
                )
        claimed = replace(entry, protocol=self.results.protocol().hash, settings=settings, knob=knob)
        write_json(self.entry_file, claimed.to_json())

    def image(self, request_id: str) -> Path:
        """Where the image of a request lies."""
        return self.root / "images" / f"{request_id}.png"

    def timings(self) -> list[dict]:
        """What every rank noted about the batches it generated: ``images`` and ``seconds``."""
        found = []
        for path in sorted(self.root.glob("timings/*.jsonl")):
            for number, _, line in numbered_lines(path):
                if any(type(line.get(name)) not in (int, float) for name in ("images", "seconds")):
                    raise LikenessError(f"{path}, line {number} lacks images or seconds: remove the line")
                found.append(line)
        return found

    def timing_log(self, rank: int) -> Path:
        return self.root / "timings" / f"{rank:05d}.jsonl"

    def record_log(self, rank: int) -> Path:
        """Where a rank appends records; :meth:`merge_records` takes them in."""
        return self.root / "shards" / f"{rank:05d}.jsonl"

    def records(self) -> dict[str, Record]:
        """Every record by request, the latest of a request; merged ones and those still in the ranks' logs.

        Raises:
            LikenessError: a line is no record of the plan, or holds what is no score; file, line and reason are named.
        """
        reader = RecordReader(self.results.protocol().requests)
        found: dict[str, Record] = {}
        for path in self._record_files():
            for number, _, line in numbered_lines(path):
                try:
                    record = reader.read(line)
                except ValueError as error:
                    raise LikenessError(f"{path}, line {number}: {error}: {MEND}") from error
                found[record.request_id] = record
        return found

    def records_hash(self) -> str:
        """SHA-256 over the records as they lie on the disk, or lay before they were packed."""
        if kept := self.kept:
            return kept.records_sha256
        digest = hashlib.sha256()
        for path in self._record_files():
            digest.update(read_file(path))
        return digest.hexdigest()

    def _record_files(self) -> list[Path]:
        merged = self.root / "records.jsonl"
        return [*([merged] if merged.is_file() else []), *sorted(self.root.glob("shards/*.jsonl"))]

    def take_in_shards(self, request_ids: Sequence[str]) -> None:
        """Bring what the ranks have appended into ``records.jsonl``, in the order of the plan.

        Between the ranks' logs there is no order in time: call it before any of them appends for another pass.
        """
        if any(self.root.glob("shards/*.jsonl")):
            places = self._latest_lines()
            self._write_records(places[request_id] for request_id in request_ids if request_id in places)

    def merge_records(self, request_ids: Sequence[str]) -> None:
        """Bring the records of all ranks into one file in the order of the plan, with one of them in memory at a time.

        Raises:
            LikenessError: a request has no record.
        """
        places = self._latest_lines()
        missing = [request_id for request_id in request_ids if request_id not in places]
        if missing:
            raise LikenessError(f"{self.root}: {len(missing)} images have no record, such as {missing[0]}")
        self._write_records(places[request_id] for request_id in request_ids)

    def _latest_lines(self) -> dict[str, tuple[Path, int]]:
        """File and first byte of each request's record."""
        places: dict[str, tuple[Path, int]] = {}
        for path in self._record_files():
            start = 0
            for number, size, line in numbered_lines(path):
                if not isinstance(line.get("request_id"), str):
                    raise LikenessError(f"{path}, line {number} names no request: {MEND}")
                places[line["request_id"]] = (path, start)
                start += size
        return places

    def _write_records(self, places: Iterable[tuple[Path, int]]) -> None:
        write_atomically(self.root / "records.jsonl", lines_at(places))
        for path in self.root.glob("shards/*.jsonl"):
            remove(path)

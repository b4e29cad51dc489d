"""One results folder: what lies where, and how it is written so that nothing is ever half there.

protocol.json            the protocol and its hash
metrics.json             the card of every column
galleries.safetensors    face embeddings of every subject's reference and held-out photos
references/SUBJECT.png   the photo that methods see
entries/LABEL/           entry.json, images/REQUEST.png, records.jsonl, and what ranks append while they work
leaderboard.*, grid.png  the report, a function of all of the above
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from contracts.errors import LikenessError
from contracts.records import Record
from datamodules.files import replace_atomically
from leaderboard.protocol import Protocol


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard."""

    label: str
    kind: str
    """method, floor or ceiling."""
    weights: str = ""
    """SHA-256 of the adapter; images of one label never mix two of them."""
    costs: Mapping[str, float | int | None] | None = None
    """What the run's manifest says about its cost."""


class Results:
    """The results folder at ``root``."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.cards = self.root / "metrics.json"
        self.galleries = self.root / "galleries.safetensors"

    def reference(self, subject: str) -> Path:
        """Where a subject's reference photo lies."""
        return self.root / "references" / f"{subject}.png"

    def protocol(self) -> Protocol:
        """The folder's protocol; raises ``LikenessError`` if the folder has none."""
        path = self.root / "protocol.json"
        if not path.is_file():
            raise LikenessError(f"{self.root} holds no results: run `--stage generate` first")
        return Protocol.from_json(read_json(path))

    def check(self, protocol: Protocol) -> None:
        """Raise ``LikenessError`` if the folder holds results of another protocol, or something else altogether."""
        if (self.root / "protocol.json").is_file():
            found = self.protocol()
            if found.hash != protocol.hash:
                names = [f.name for f in fields(Protocol) if getattr(found, f.name) != getattr(protocol, f.name)]
                raise LikenessError(
                    f"{self.root} holds results of protocol {found.hash}, not of {protocol.hash} "
                    f"({', '.join(names)} changed): take another --output"
                )
        elif self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise LikenessError(f"{self.root} is neither empty nor a results folder: take another --output")

    def write_protocol(self, protocol: Protocol) -> None:
        """Make this the folder of ``protocol``."""
        write_json(self.root / "protocol.json", protocol.to_json())

    def entry(self, label: str) -> "EntryFolder":
        """The folder of one entry, which need not exist yet."""
        return EntryFolder(self.root / "entries" / label)

    def entries(self) -> list[Entry]:
        """The entries that the folder knows, by label."""
        return [Entry(**read_json(path)) for path in sorted(self.root.glob("entries/*/entry.json"))]


class EntryFolder:
    """Images and records of one entry."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def claim(self, entry: Entry) -> None:
        """Make this the folder of ``entry``; raises ``LikenessError`` if its images come from other weights."""
        path = self.root / "entry.json"
        if path.is_file() and (found := Entry(**read_json(path))).weights != entry.weights:
            raise LikenessError(
                f"{self.root} holds images of other weights ({found.weights[:12]}, now {entry.weights[:12]}): "
                f"give the run another label with LABEL=FOLDER, or take another --output"
            )
        for unfinished in self.root.glob("images/.*"):  # of a process that was killed while it wrote
            unfinished.unlink()
        write_json(path, vars(entry))

    def image(self, request_id: str) -> Path:
        """Where the image of a request lies."""
        return self.root / "images" / f"{request_id}.png"

    def timings(self) -> list[dict]:
        """What every rank noted about the batches it drew: ``images`` and ``seconds``."""
        return [line for path in sorted(self.root.glob("timings/*.jsonl")) for line in read_lines(path)]

    def timing_log(self, rank: int) -> Path:
        return self.root / "timings" / f"{rank:05d}.jsonl"

    def record_log(self, rank: int) -> Path:
        """Where a rank appends records; :meth:`merge_records` takes them in."""
        return self.root / "shards" / f"{rank:05d}.jsonl"

    def records(self) -> dict[str, Record]:
        """Every record by request, the latest of a request; merged ones and those still in the ranks' logs."""
        paths = [self.root / "records.jsonl", *sorted(self.root.glob("shards/*.jsonl"))]
        lines = [Record(**line) for path in paths if path.is_file() for line in read_lines(path)]
        return {record.request_id: record for record in lines}

    def merge_records(self, request_ids: Sequence[str]) -> None:
        """Bring the records of all ranks into one file in the order of the plan.

        Raises:
            LikenessError: a request has no record.
        """
        records = self.records()
        missing = [request_id for request_id in request_ids if request_id not in records]
        if missing:
            raise LikenessError(f"{self.root}: {len(missing)} images have no record, such as {missing[0]}")
        text = "".join(json_line(records[request_id].to_json()) for request_id in request_ids)
        replace_atomically(self.root / "records.jsonl", text.encode())
        for path in self.root.glob("shards/*.jsonl"):
            path.unlink()


class LineLog:
    """Appends JSON lines, each flushed at once; a line that a killed process left unfinished is cut off first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)

    def append(self, rows: Iterable[Mapping]) -> None:
        """Write one line per row."""
        for row in rows:
            self._file.write(json_line(row).encode())
        self._file.flush()

    def __enter__(self) -> "LineLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def json_line(row: Mapping) -> str:
    """Compact JSON with a line break; NaN is refused."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def write_json(path: Path, data: object) -> None:
    """Indented JSON, written atomically."""
    replace_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises ``LikenessError`` with the file's name where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LikenessError(f"{path} is damaged ({error}): remove it and run the stage again") from error


def read_lines(path: Path) -> Iterator[dict]:
    """The JSON lines of a file; an unfinished last line is left out."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise LikenessError(f"{path}, line {number} is no JSON: remove it and run the stage again") from error

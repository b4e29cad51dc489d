"""A results folder that somebody else made: whatever is a link in it, nothing behind it is written, cut or deleted."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import LikenessError
from leaderboard.report.report import write_report
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.image_files import write_image
from leaderboard.results.lines import LineLog
from leaderboard.results.provenance import note_enrolment, note_stage
from tests.helpers.boards import make_results

OURS = Entry("ours", "method", "ours")
FOLDERS = [
    "entries",
    "entries/ours",
    "entries/ours/images",
    "entries/ours/timings",
    "entries/ours/shards",
    "references",
]
FILES = [
    "protocol.json",
    "leaderboard.md",
    "leaderboard.html",
    "grid.png",
    "metrics.json",
    "entries/ours/entry.json",
    "entries/ours/records.jsonl",
    "entries/ours/stages.json",
    "entries/ours/timings/00000.jsonl",
    "entries/ours/timings/enrolment.json",
    "entries/ours/shards/00000.jsonl",
    "entries/ours/images/s1.beach.00.png",
    "references/s1.png",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "results"
    results = make_results(root)
    with LineLog(results.entry("ours").timing_log(0)) as log:
        log.append([{"images": 1, "seconds": 1.0}])
    shutil.copytree(results.entry("ours").root / "timings", results.entry("ours").root / "shards")
    note_enrolment(results.entry("ours"), OURS, lambda: 1.0)
    note_stage(results.entry("ours"), "score", 4)
    shutil.copy(results.entry("ours").root / "records.jsonl", results.entry("ours").record_log(0))
    write_report(results)
    return root


def writers(results: Results, report: bool = True) -> list[Callable[[], object]]:
    """All that a run of the stages writes, cuts or deletes."""
    folder, image = results.entry("ours"), np.zeros((64, 64, 3), np.uint8)
    ids = [request.id for request in results.protocol().requests]

    def log(path: Path) -> None:
        with LineLog(path) as lines:
            lines.append([{"images": 1, "seconds": 2.0}])

    return [
        lambda: folder.claim(OURS),
        lambda: write_image(folder.image(ids[0]), image, {}),
        lambda: write_image(folder.image("s1.beach.00"), image, {}),
        lambda: write_image(results.reference("s1"), image, {}),
        lambda: note_enrolment(folder, OURS, lambda: 2.0),
        lambda: note_stage(folder, "score", 8),
        *([lambda: write_report(results)] if report else []),
        lambda: folder.take_in_shards(ids),
        lambda: folder.merge_records(ids),
        lambda: log(folder.timing_log(0)),
        lambda: log(folder.record_log(0)),
        lambda: log(folder.timing_log(1)),
        lambda: results.write_protocol(results.protocol()),
    ]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_nothing_behind_a_link_changes(whole: Path, tmp_path: Path, name: str) -> None:
    root, theirs = Path(shutil.copytree(whole, tmp_path / "results")), tmp_path / "theirs"
    theirs.mkdir()
    path = root / name
    if path.exists():
        shutil.move(path, theirs / path.name)
    (theirs / ".secret").write_text("a dot file of theirs")
    path.symlink_to(theirs / path.name)
    if path.is_dir():
        for hidden in (".secret", ".likeness-0123456789abcdef.part"):
            (path / hidden).write_text("another one")
    before, refused = content(theirs), 0
    for write in writers(Results(root), report="/" not in name):
        try:
            write()
        except LikenessError as error:
            refused += "is a link, and nothing is written" in str(error)
    assert content(theirs) == before
    if name in FOLDERS or name.endswith("timings/00000.jsonl"):
        assert refused, "what is not replaced is refused"


@pytest.mark.parametrize("way", ["linked/results", "results"])
def test_the_folder_itself_may_lie_behind_a_link(whole: Path, tmp_path: Path, way: str) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "disk" / "results"))
    (tmp_path / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "results").symlink_to(root)
    for write in writers(Results(tmp_path / way), report=False):
        write()


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file_makes_nobody_wait(whole: Path, tmp_path: Path, name: str) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "results"))
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    if name == "protocol.json":
        with pytest.raises(LikenessError, match="holds no results"):
            writers(Results(root))
        return
    for write in writers(Results(root), report=name == "metrics.json"):
        with suppress(LikenessError):
            write()

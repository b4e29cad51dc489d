"""Packed results: one small file of equal bytes, the same report from it, and nothing written that is no part of it."""

import io
import json
import lzma
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from contracts.files import write_json
from evaluate import main
from leaderboard.report.packing import packed_files
from leaderboard.results.archive import read_archive, unpack, write_archive
from leaderboard.results.folder import Results
from leaderboard.results.lines import json_line
from leaderboard.verify import verify
from tests.helpers.boards import MISSED, SIX, make_results
from tests.leaderboard.test_drift import drifted
from tests.leaderboard.test_sweep import turn
from tools import archive_results

__all__ = ["drifted"]  # a fixture
REPORT = [f"leaderboard.{end}" for end in ("json", "csv", "md", "tex", "html")]


def report(results: Results) -> dict[str, bytes]:
    """The files of the report that is made now."""
    for name in REPORT:
        (results.root / name).unlink(missing_ok=True)
    assert main(["--stage=report", f"--output={results.root}"]) == 0
    return {name: (results.root / name).read_bytes() for name in REPORT}


def as_another(results: Results, name: str, label: str, **facts: object) -> None:
    """The entry ``name`` once more, as ``label``."""
    shutil.copytree(results.entry(name).root, results.entry(label).root)
    path = results.entry(label).entry_file
    write_json(path, json.loads(path.read_text()) | {"label": label, **facts})


@pytest.fixture
def full(drifted: Results) -> Results:
    """Two trainings, a sweep, drift, an image without a face, an entry that is not complete, and images of another
    program, of which one is missing."""
    as_another(drifted, "ours", "ours+2", weights="second")
    for name in ("ours", "ours+2"):
        as_another(drifted, name, f"{name}@0.5", settings="half")
        turn(drifted, f"{name}@0.5", 0.5)
        turn(drifted, name, 1.0)
    as_another(drifted, "theirs", "late", weights="late")
    late = drifted.entry("late").root / "records.jsonl"
    late.write_text("".join(late.read_text().splitlines(keepends=True)[:5]))
    facts = {"missing": [MISSED], "superfluous": 0, "resized": 0, "jpeg": 0}
    as_another(drifted, "theirs", "given", weights="given", images=facts, manifest=None, folder="elsewhere")
    drifted.entry("given").image(MISSED).unlink()
    records = drifted.entry("given").root / "records.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for row in rows:
        if row["request_id"] == MISSED:
            row |= {"features": {}, "details": row["details"] | {"faces": 0, "missing": True}}
            row["scores"] |= dict.fromkeys(("identity_given_detection", "clip_t", "edit_margin", "copy_paste"))
    records.write_text("".join(map(json_line, rows)))
    for label, seconds in (("ours", 0.25), ("theirs", 0.5)):
        (drifted.entry(label).root / "timings").mkdir()
        write_json(drifted.entry(label).root / "timings" / "enrolment.json", {"seconds": seconds})
        drifted.entry(label).timing_log(0).write_text('{"images":4,"seconds":2.0}\n')
    return drifted


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    archive_results.pack(make_results(root / "results", subjects=SIX).root, root / "board.tar.xz")
    return root / "board.tar.xz"


def test_the_report_of_packed_results_is_the_same_to_the_byte(
    full: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "board.tar.xz", tmp_path / "unpacked"
    assert archive_results.main(["pack", str(full.root), str(file)]) == 0
    assert archive_results.main(["unpack", str(file), str(folder)]) == 0
    ours = report(full)
    capsys.readouterr()
    found = report(Results(folder))
    assert "note: grid.png is not written: these are packed results" in capsys.readouterr().out
    assert found == ours and not (folder / "grid.png").exists() and (full.root / "grid.png").exists()
    board = json.loads(found["leaderboard.json"])
    row = next(row for row in board["entries"] if row["label"] == "ours")
    assert len(row["trainings"]) == 2 and len(row["sweep"]["points"]) == 2
    for name in ("drift", "diversity", "kid"):
        assert row["metrics"][name]["value"] is not None
    assert any("left out late" in note for note in board["notes"])
    assert any("given lacks 1 of 24 images" in note for note in board["notes"])
    assert (Results(folder).entry("ours").image(MISSED).with_suffix(".webp")).is_file()
    pictures = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert pictures & {".png", ".safetensors", ".webp"} == {".webp"}
    assert "clip" not in json.loads((folder / "entries/ours/records.jsonl").read_text().splitlines()[0])["features"]
    assert main(["--compare", "ours", "theirs", f"--output={folder}"]) == 0
    verdict = verify(Results(folder))
    assert not verdict.problems and verdict.images == 0
    assert any("packed results, without them" in line for line in verdict.unchecked)


def test_equal_results_are_equal_bytes(full: Results, tmp_path: Path) -> None:
    shutil.copytree(full.root, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    sizes = [archive_results.pack(root, tmp_path / name) for root, name in ((full.root, "a"), (tmp_path / "copy", "b"))]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() and len(set(sizes)) == 1
    with tarfile.open(tmp_path / "a") as archive:  # as any tar reads it
        members = archive.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_nothing_is_added_to_packed_results(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "unpacked"
    unpack(packed, folder)
    results = Results(folder)
    with pytest.raises(LikenessError, match=r"holds packed results, without the images .* take another --output"):
        results.check(results.protocol())
    with pytest.raises(LikenessError, match="pack the folder that they were made from"):
        packed_files(results)
    for arguments, said in (
        (["unpack", packed, folder], "is not empty: unpack into another folder"),
        (["unpack", tmp_path / "nowhere", tmp_path / "x"], "cannot be read: No such file or directory"),
        (["pack", tmp_path / "nowhere", tmp_path / "x"], "holds no results"),
        (["pack", packed.parent / "results", tmp_path], "cannot be written"),
    ):
        assert archive_results.main([str(word) for word in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and said in line
    assert not (tmp_path / "x").exists()
    assert main(["--stage=report", f"--output={packed}"]) == 2
    assert "is a file and no results folder: packed results are unpacked by" in capsys.readouterr().err


def test_a_folder_without_a_ceiling_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = make_results(tmp_path / "results")
    (results.entry("real-photo").root / "records.jsonl").unlink()
    assert archive_results.main(["pack", str(results.root), str(tmp_path / "x")]) == 2
    assert "left out real-photo: 0 of" in capsys.readouterr().err and not (tmp_path / "x").exists()


def archive_of(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive with one member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member, io.BytesIO())
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    """One byte in the middle is another one."""
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 255]) + data[half + 1 :]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-9], "is cut short"),
        (lambda data: data[: len(data) // 2], "is cut short"),
        (lambda data: data + b"more", "has more behind its end"),
        (flipped, "is damaged"),
        (lambda _: b"", "is cut short"),
        (lambda _: b"no archive at all", "no tar archive compressed by xz"),
        (lambda _: lzma.compress(b"no tar" * 999), "no tar archive compressed by xz"),
        (lambda _: archive_of("../outside.json"), "no packed results: there is '../outside.json'"),
        (lambda _: archive_of("/protocol.json"), "no packed results: there is '/protocol.json'"),
        (lambda _: archive_of("entries/../records.jsonl"), "there is 'entries/../records.jsonl'"),
        (lambda _: archive_of("setup.py"), "there is 'setup.py'"),
        (lambda _: archive_of("protocol.json", tarfile.SYMTYPE), "there is 'protocol.json'"),
        (lambda _: archive_of("entries/a/records.jsonl", tarfile.LNKTYPE), "there is 'entries/a/records.jsonl'"),
        (lambda _: archive_of("metrics.json"), "there is no packed.json in it"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line_and_writes_nothing(
    spoil: Callable[[bytes], bytes], said: str, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").write_bytes(spoil(packed.read_bytes()))
    assert archive_results.main(["unpack", str(tmp_path / "bad"), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'bad'} ") and said in line and not (tmp_path / "out").exists()


def test_a_file_that_unpacks_to_too_much_is_one_line(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderboard.results.archive.MOST", 10_000)
    with pytest.raises(LikenessError, match="unpacks to more than 10000 bytes"):
        read_archive(packed)


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("packed.json", lambda text: text.replace('"version":1', '"version":2'), "by another version of Likeness"),
        ("packed.json", lambda text: text.replace('"entries"', '"others"'), "packed.json is damaged (KeyError"),
        ("packed.json", lambda text: text[:-9], "packed.json is damaged"),
        ("packed.json", lambda text: text.replace('"numerator":[', '"numerator":[1.0,', 1), "are not of 6 subjects"),
        (
            "packed.json",
            lambda text: text.replace('"diversity"', '"novelty"', 1),
            "not of the same columns in",
        ),
        ("packed.json", lambda text: text.replace('"value":', '"value":"high","x":', 1), "packed.json is damaged"),
        ("packed.json", lambda text: re.sub('"value":[^,]+', '"value":"high"', text), "a value is no number"),
        ("references/s1.webp", None, "s1.webp cannot be read (No such file or directory): unpack the results again"),
        ("entries/ours/records.jsonl", lambda text: text.replace('"scores"', '"score"', 1), "another version"),
    ],
)
def test_what_was_damaged_after_unpacking_is_one_line(
    name: str,
    spoil: Callable[[str], str] | None,
    said: str,
    packed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = read_archive(packed)
    if spoil is None:
        del files[name]
    else:
        files[name] = spoil(files[name].decode()).encode()
    write_archive(tmp_path / "bad", files)
    unpack(tmp_path / "bad", tmp_path / "out")
    assert main(["--stage=report", f"--output={tmp_path / 'out'}"]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]

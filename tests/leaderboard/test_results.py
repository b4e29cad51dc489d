import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from contracts.errors import LikenessError
from leaderboard.results import Entry, EntryFolder, LineLog, Results, read_lines
from tests.leaderboard.test_protocol import make_protocol


def test_a_log_goes_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with LineLog(path) as log:
        log.append([{"a": 1}])
    path.write_bytes(path.read_bytes() + b'{"a": 2, "b')
    assert list(read_lines(path)) == [{"a": 1}]
    with LineLog(path) as log:
        log.append([{"a": 3}])
    assert list(read_lines(path)) == [{"a": 1}, {"a": 3}]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\nnot json\n')
    with pytest.raises(LikenessError, match="line 2 is no JSON"):
        list(read_lines(path))


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    with LineLog(tmp_path / "log.jsonl") as log, pytest.raises(ValueError, match="JSON"):
        log.append([{"a": float("nan")}])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(LikenessError, match="neither empty nor a results folder"):
        Results(tmp_path).check(make_protocol())


def test_the_refusal_names_what_changed(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.check(make_protocol())
    results.write_protocol(make_protocol())
    results.check(make_protocol())
    with pytest.raises(LikenessError, match=r"\(steps, seed changed\)"):
        results.check(make_protocol(steps=9, seed=9))


def test_merging_asserts_that_every_request_has_a_record(tmp_path: Path) -> None:
    folder = EntryFolder(tmp_path)
    folder.claim(Entry("x", "method", "w"))
    with pytest.raises(LikenessError, match=r"1 images have no record, such as s1\.beach\.00"):
        folder.merge_records(["s1.beach.00"])


def test_the_order_in_a_gallery_files_header_does_not_matter(tmp_path: Path) -> None:
    """The library writes the header's metadata in another order in every process."""
    results = Results(tmp_path)
    vectors = {"a": np.arange(3, dtype=np.float32), "b": np.ones(2, np.float32)}
    save_file(vectors, results.galleries, metadata={"one": "1", "two": "2", "three": "3"})
    data = results.galleries.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    first = results.photos_hash()
    header["__metadata__"] = dict(reversed(header["__metadata__"].items()))
    turned = json.dumps(dict(reversed(header.items())), separators=(",", ":")).encode().ljust(size)
    results.galleries.write_bytes(data[:8] + turned + data[8 + size :])
    assert results.galleries.read_bytes() != data
    assert results.photos_hash() == first
    save_file(vectors | {"b": np.zeros(2, np.float32)}, results.galleries, metadata={"one": "1"})
    assert results.photos_hash() != first

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from contracts.errors import LikenessError
from contracts.files import write_json
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.lines import LineLog, read_lines
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


def test_what_a_process_killed_in_its_first_write_leaves_is_no_results(tmp_path: Path) -> None:
    (tmp_path / ".protocol.json.x1y2").write_bytes(b"{")
    Results(tmp_path).check(make_protocol())


def test_the_refusal_names_what_changed(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.check(make_protocol())
    results.write_protocol(make_protocol())
    results.check(make_protocol())
    with pytest.raises(LikenessError, match=r"\(steps, seed changed\)"):
        results.check(make_protocol(steps=9, seed=9))


def test_merging_asserts_that_every_request_has_a_record(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write_protocol(make_protocol())
    folder = results.entry("x")
    folder.claim(Entry("x", "method", "w"))
    with pytest.raises(LikenessError, match=r"1 images have no record, such as s1\.beach\.00"):
        folder.merge_records(["s1.beach.00"])


def test_images_of_one_entry_never_mix_two_settings(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write_protocol(make_protocol())
    results.entry("x").claim(Entry("x", "method", "w", folder="runs/x", settings="a"))
    results.entry("x").claim(Entry("x", "method", "w", folder="runs/x", settings="a"))
    with pytest.raises(LikenessError, match=r"generated with other model settings than those in runs/x/config\.yaml"):
        results.entry("x").claim(Entry("x", "method", "w", folder="runs/x", settings="b"))
    results.entry("old").claim(Entry("old", "method", "w"))  # generated before settings were noted
    results.entry("old").claim(Entry("old", "method", "w", settings="b"))
    assert {entry.label: entry.settings for entry in results.entries()} == {"x": "a", "old": ""}


def test_an_entry_belongs_to_the_protocol_it_was_claimed_under(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write_protocol(make_protocol())
    results.entry("x").claim(Entry("x", "method", "w"))
    (entry,) = results.entries()
    assert entry.protocol == make_protocol().hash
    results.entry("x").claim(entry)
    with pytest.raises(LikenessError, match="holds images of other weights"):
        results.entry("x").claim(Entry("x", "method", "v"))
    other = make_protocol(steps=9)
    results.write_protocol(other)
    with pytest.raises(LikenessError, match=f"x was generated under protocol {entry.protocol}, .* is of {other.hash}"):
        results.entry("x").claim(entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "y"}, "label 'y' is not the name of its folder"),
        ({"kind": "best"}, "kind 'best' is none of ceiling, reconstruction, method, described, floor"),
        ({"weights": 3}, "weights is 3, no text"),
        ({"manifest": ["cheap"]}, "manifest is"),
        ({"manifest": {"enrol_seconds": "fast"}}, "enrol_seconds is 'fast', it must be a number of at least 0"),
        ({"manifest": {"enrol_seconds": -1}}, "enrol_seconds is -1, it must be a number of at least 0"),
        ({"manifest": {"trainable_parameters": 1.5}}, "trainable_parameters is 1.5, it must be a whole number"),
        ({"manifest": {"peak_memory_bytes": True}}, "peak_memory_bytes is True, it must be a whole number"),
        ({"colour": "red"}, "another version of Likeness"),
    ],
    ids=str,
)
def test_a_damaged_entry_is_one_line(tmp_path: Path, change: dict, message: str) -> None:
    results = Results(tmp_path)
    results.write_protocol(make_protocol())
    results.entry("x").claim(Entry("x", "method", "w", {"enrol_seconds": 0, "peak_memory_bytes": None}))
    path = results.entry("x").root / "entry.json"
    write_json(path, {**json.loads(path.read_text()), **change})
    with pytest.raises(LikenessError) as error:
        results.entries()
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("cost", ["NaN", "1e999"])
def test_a_cost_that_is_no_number_is_named(tmp_path: Path, cost: str) -> None:
    results = Results(tmp_path)
    results.write_protocol(make_protocol())
    results.entry("x").claim(Entry("x", "method", "w", {"enrol_seconds": 12345}))
    path = results.entry("x").root / "entry.json"
    path.write_text(path.read_text().replace("12345", cost))
    with pytest.raises(LikenessError, match=rf"entry\.json is damaged \({cost}\)"):
        results.entries()


@pytest.mark.parametrize("line", ['{"images": 2}', '{"images": "two", "seconds": 1}', "[1]"])
def test_a_damaged_timing_is_one_line(tmp_path: Path, line: str) -> None:
    log = Results(tmp_path).entry("x").timing_log(0)
    log.parent.mkdir(parents=True)
    log.write_text('{"images": 2, "seconds": 0.5}\n' + line + "\n")
    with pytest.raises(LikenessError, match=r"00000\.jsonl, line 2 .*remove the line"):
        Results(tmp_path).entry("x").timings()


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

"""What is kept between runs."""

import os
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import LikenessError
from curation.work import Work, array_text, complete, text_array


def record(number: int) -> dict[str, np.ndarray]:
    return {"n": np.array(number), "rows": np.zeros((0, 4), np.float32), "text": text_array(f"nó {number}")}


def test_records_are_found_again_and_those_that_nobody_wants_leave_the_disk(tmp_path: Path) -> None:
    work = Work(tmp_path, "looks")
    work.add([("a", record(1)), ("b", record(2))])
    work.add([("c", record(3))])
    Work(tmp_path, "others").add([("a", record(9))])
    again = Work(tmp_path, "looks")
    assert "a" in again and "d" not in again
    assert again["b"]["n"].item() == 2 and again["b"]["rows"].shape == (0, 4)
    assert array_text(again["c"]["text"]) == "nó 3"
    again.keep_only(["b"])
    assert [key for key in "abc" if key in Work(tmp_path, "looks")] == ["b"]
    assert b"n\xc3\xb3 1" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert "a" in Work(tmp_path, "others")


def test_only_what_is_missing_is_made_and_a_stopped_run_loses_nothing(tmp_path: Path) -> None:
    made: list[int] = []

    def make(items: list[int]) -> list[dict[str, np.ndarray]]:
        if 7 in items:
            raise KeyboardInterrupt
        made.extend(items)
        return [record(item) for item in items]

    items = {str(n): n for n in range(9)}
    with pytest.raises(KeyboardInterrupt):
        complete(Work(tmp_path, "looks"), items, make, "looking", batch=2)
    assert made == [0, 1, 2, 3, 4, 5]
    items.pop("7")
    complete(Work(tmp_path, "looks"), items, make, "looking", batch=2)
    assert made == [0, 1, 2, 3, 4, 5, 6, 8]
    assert Work(tmp_path, "looks")["8"]["n"].item() == 8


def test_a_damaged_record_is_made_again_or_named(tmp_path: Path) -> None:
    work = Work(tmp_path, "looks")
    work.add([("a", {"values": np.arange(4096)})])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "a" not in Work(tmp_path, "looks")
    assert not list(tmp_path.iterdir())
    os.mkfifo(path)
    assert "a" not in Work(tmp_path, "looks")
    assert not list(tmp_path.iterdir())
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(LikenessError, match="is damaged: delete it and run again"):
        _ = Work(tmp_path, "looks")["a"]

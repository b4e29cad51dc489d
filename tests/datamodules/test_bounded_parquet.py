"""Small files of Parquet that unpack to gigabytes are refused before they do."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import LikenessError
from datamodules import bounded_parquet
from datamodules.bounded_parquet import read_bounded
from datamodules.schema import open_shard

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FLOOR = 2**22
"""In place of the real one, a hundredth of it."""


def bomb(path: Path, kind: str) -> Path:
    """A file of a few kilobytes whose rows take 64 MB or more."""
    repeated = pa.array(np.zeros(130, np.int32))
    if kind == "a value repeated":
        column = pa.DictionaryArray.from_arrays(repeated, pa.array([bytes(2**19)]))
    elif kind == "a text repeated":
        column = pa.DictionaryArray.from_arrays(repeated, pa.array(["x" * 2**19]))
    elif kind == "zeros":
        column = pa.array([{"bytes": bytes(2**26), "path": None}], PICTURE)
    else:
        column = pa.array(np.zeros(17_000_000, np.int32))
    pq.write_table(pa.table({"image": column}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 100_000
    return path


@pytest.mark.parametrize("kind", ["a value repeated", "a text repeated", "zeros", "rows"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bomb(tmp_path / "bomb.parquet", kind)
    monkeypatch.setattr(bounded_parquet, "FLOOR", FLOOR)
    shard, usual = pq.ParquetFile(path), pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(LikenessError, match=r"bomb.parquet holds rows that take more than 0.0 GB of memory for a"):
            read_bounded(path, shard, ["image"])
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 4 * FLOOR


def test_what_is_read_is_what_the_library_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"bytes": rng.bytes(2000), "path": None} for _ in range(70)]
    table = pa.table(
        {
            "image": pa.array(rows, PICTURE),
            "caption": [f"photo {i % 3}" for i in range(70)],
            "pose": pa.array(rng.random((70, 3)).tolist(), pa.list_(pa.float32(), 3)),
        }
    )
    for name, chosen in (("whole", table), ("empty", table[:0])):
        pq.write_table(chosen, tmp_path / f"{name}.parquet", row_group_size=20)
        shard = pq.ParquetFile(tmp_path / f"{name}.parquet")
        for columns in (["image"], ["caption", "pose"], ["image", "caption", "pose"]):
            assert read_bounded(tmp_path / "whole.parquet", shard, columns).equals(shard.read(columns))
        for group in range(shard.num_row_groups):
            found = read_bounded(tmp_path / "whole.parquet", shard, ["image"], group)
            assert found.equals(shard.read_row_group(group, ["image"]))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.parquet")
    with pytest.raises(LikenessError, match=r"train.parquet' is a pipe or a device and no file"):
        open_shard(tmp_path / "train.parquet")

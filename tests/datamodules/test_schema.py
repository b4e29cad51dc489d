"""A dataset that does not follow the schema is refused in one line that names shard and column."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import LikenessError
from contracts.files import cache_folder
from datamodules.index import load_photos
from datamodules.schema import COLUMNS, features
from datamodules.sources import find_shards
from pocket.render.dataset import Grid, rows_of

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def whole() -> pa.Table:
    from datasets import Dataset

    rows = [row for subject in (0, 19) for row in rows_of(subject, Grid(20, 2, 2))]
    return Dataset.from_list(rows, features=features()).data.table


def _set(name: str, values: list[Any] | pa.Array) -> Change:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))


def _pictures(values: list[dict[str, Any]]) -> Change:
    return _set("image", pa.array(values, COLUMNS.field("image").type))


def _load(table: pa.Table, folder: Path, cache: Path) -> list:
    pq.write_table(table, folder / "part-0.parquet")
    return load_photos(find_shards(str(folder)), cache)


def test_order_does_not_depend_on_the_shards(whole: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    pq.write_table(whole.slice(5), tmp_path / "a.parquet")
    pq.write_table(whole.slice(0, 5), tmp_path / "deep" / "b.parquet")
    split = load_photos(find_shards(str(tmp_path)), tmp_path / "cache")
    (tmp_path / "one").mkdir()
    joined = _load(whole, tmp_path / "one", tmp_path / "cache")
    assert [p.id for p in split] == [p.id for p in joined]
    assert [p.mask_sha256 for p in split] == [p.mask_sha256 for p in joined]


def test_wider_types_and_further_columns_are_fine(whole: pa.Table, tmp_path: Path) -> None:
    table = whole.set_column(4, "pose_id", whole["pose_id"].cast(pa.int64()))
    table = table.set_column(8, "caption", whole["caption"].cast(pa.large_string()))
    table = table.set_column(5, "pose", whole["pose"].cast(pa.list_(pa.float64())))
    assert len(_load(table.append_column("note", pa.array(["x"] * 8)), tmp_path, tmp_path)) == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns(["caption"]), "has no column `caption`"),
        (_set("pose_id", ["front"] * 8), "column `pose_id` is string, it must be int32"),
        (_set("caption", [1] * 8), "column `caption` is int64, it must be string"),
        (_set("pose", [[0.0, 0.0]] * 8), "column `pose` is .* in row 0, it must be 3 numbers"),
        (_set("pose", pa.array([[0.0, 0.0]] * 8, pa.list_(pa.float32(), 2))), "column `pose` is fixed_size_list"),
        (_set("image", ["a.png"] * 8), "column `image` is string, it must be struct"),
        (_set("subject_id", [None, *["s1"] * 7]), "column `subject_id` lacks a value in 1 rows"),
        (_set("split", ["train"] * 7 + ["tset"]), "column `split` is 'tset' in row 7"),
        (_set("sha256", ["0" * 64] * 8), "the image in row 0 differs from its `sha256`"),
        (lambda t: pa.concat_tables([t, t.slice(2, 1)]), "the same image occurs twice for subject 's0000'"),
        (_set("subject_id", ["s1"] * 8), "subject 's1' is in two splits"),
        (_pictures([{"bytes": None, "path": "../../secret.png"}] * 8), "names a file outside of the dataset"),
        (_pictures([{"bytes": None, "path": "gone.png"}] * 8), "gone.png, named in row 0"),
    ],
)
def test_what_is_wrong_is_named(whole: pa.Table, tmp_path: Path, change: Change, said: str) -> None:
    with pytest.raises(LikenessError, match=said) as caught:
        _load(change(whole), tmp_path, tmp_path / "cache")
    assert "part-0.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 10, 0.5, -4])
def test_a_shard_cut_short_is_named_and_leaves_nothing_behind(whole: pa.Table, tmp_path: Path, kept: float) -> None:
    pq.write_table(whole, tmp_path / "part-0.parquet")
    data = (tmp_path / "part-0.parquet").read_bytes()
    (tmp_path / "part-0.parquet").write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(LikenessError, match=r"part-0.parquet is not a whole Parquet file") as caught:
        load_photos(find_shards(str(tmp_path)), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    (tmp_path / "part-0.parquet").write_bytes(data)
    assert len(load_photos(find_shards(str(tmp_path)), tmp_path / "cache")) == 8


def test_damage_inside_a_shard_is_named(whole: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "part-0.parquet"
    pq.write_table(whole, path)
    data = bytearray(path.read_bytes())
    data[1000:3000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(LikenessError, match=r"part-0.parquet"):
        load_photos([path], tmp_path / "cache")


def test_a_changed_shard_is_checked_again(whole: pa.Table, tmp_path: Path) -> None:
    _load(whole, tmp_path, tmp_path / "cache")
    swapped = _pictures(whole["image"].to_pylist()[::-1])(whole)
    with pytest.raises(LikenessError, match="differs from its `sha256`"):
        _load(swapped, tmp_path, tmp_path / "cache")


def test_images_may_be_files_beside_the_shard_and_are_checked_every_time(whole: pa.Table, tmp_path: Path) -> None:
    rows = whole["image"].to_pylist()
    (tmp_path / "photos").mkdir()
    for i, row in enumerate(rows):
        (tmp_path / "photos" / f"{i}.png").write_bytes(row["bytes"])
    table = _pictures([{"bytes": None, "path": f"photos/{i}.png"} for i in range(8)])(whole)
    assert len(_load(table, tmp_path, tmp_path / "cache")) == 8
    (tmp_path / "photos" / "3.png").write_bytes(rows[4]["bytes"])
    with pytest.raises(LikenessError, match="the image in row 3 differs"):
        load_photos(find_shards(str(tmp_path)), tmp_path / "cache")


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="dataset '/no/such/folder' is missing"):
        find_shards("/no/such/folder")
    with pytest.raises(LikenessError, match="dataset 'pocket20k' is missing"):
        find_shards("pocket20k")
    with pytest.raises(LikenessError, match="'nobody/nothing' is neither a folder nor in the hub's local cache"):
        find_shards("nobody/nothing@v1")
    with pytest.raises(LikenessError, match="holds no Parquet shards"):
        find_shards(str(tmp_path))


def test_the_cache_lies_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cache_folder("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("LIKENESS_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "likeness"

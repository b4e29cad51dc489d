"""A dataset is read as it is meant, whoever wrote it, or refused in one line that names shard, column and row."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from contracts.errors import LikenessError
from contracts.files import cache_folder
from datamodules.index import Photo, load_photos, read_photos
from datamodules.schema import COLUMNS, features
from datamodules.sources import find_shards
from pocket.render.dataset import Grid, rows_of

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def whole() -> pa.Table:
    rows = [row for subject in (0, 19) for row in rows_of(subject, Grid(20, 2, 2))]
    return Dataset.from_list(rows, features=features()).data.table


def _put(table: pa.Table, name: str, values: Any, kind: pa.DataType | None = None) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values if kind is None else pa.array(values, kind))


def _set(name: str, values: list[Any] | pa.Array, kind: pa.DataType | None = None) -> Change:
    return lambda table: _put(table, name, pa.array(values, kind))


def _one(name: str, value: Any, row: int = 3) -> Change:
    """Another value in one row."""

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        return _put(table, name, values, table[name].type)

    return change


def _cast(name: str, kind: pa.DataType) -> Change:
    return lambda table: _put(table, name, table[name].to_pylist(), kind)


def _pictures(values: list[dict[str, Any]]) -> Change:
    return _set("image", values, COLUMNS.field("image").type)


def _load(table: pa.Table, folder: Path, cache: Path) -> list[Photo]:
    pq.write_table(table, folder / "part-0.parquet")
    return load_photos(find_shards(str(folder)), cache)


def _plain(photos: list[Photo]) -> list[Photo]:
    return [replace(photo, shard=Path()) for photo in photos]


def test_order_does_not_depend_on_the_shards(whole: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    pq.write_table(whole.slice(5), tmp_path / "a.parquet")
    pq.write_table(whole.slice(0, 5), tmp_path / "deep" / "b.parquet")
    split = load_photos(find_shards(str(tmp_path)), tmp_path / "cache")
    (tmp_path / "one").mkdir()
    joined = _load(whole, tmp_path / "one", tmp_path / "cache")
    assert [p.id for p in split] == [p.id for p in joined]
    assert [p.mask_sha256 for p in split] == [p.mask_sha256 for p in joined]


def _dictionaries(table: pa.Table) -> pa.Table:
    for name in ("subject_id", "split", "caption", "role"):
        table = _put(table, name, table[name].dictionary_encode())
    return table


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "pandas": lambda table, path: pd.DataFrame(table.to_pylist()).to_parquet(path),
    "pandas of bytes": lambda table, path: pd.DataFrame(
        [row | {"image": row["image"]["bytes"], "mask": row["mask"]["bytes"]} for row in table.to_pylist()]
    ).to_parquet(path),
    "pandas from arrow": lambda table, path: table.to_pandas().to_parquet(path),
    "from_list": lambda table, path: Dataset.from_list(table.to_pylist()).to_parquet(path),
    "pyarrow": lambda table, path: pq.write_table(pa.Table.from_pylist(table.to_pylist()), path),
    "rows in groups": lambda table, path: pq.write_table(table, path, row_group_size=3),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_whoever_writes_it_the_photos_are_the_same(whole: pa.Table, tmp_path: Path, writer: str) -> None:
    (tmp_path / "ours").mkdir()
    ours = _load(whole, tmp_path / "ours", tmp_path / "cache")
    (tmp_path / "theirs").mkdir()
    WRITERS[writer](whole, tmp_path / "theirs" / "a.parquet")
    theirs = load_photos(find_shards(str(tmp_path / "theirs")), tmp_path / "cache")
    assert _plain(theirs) == _plain(ours)
    assert [f.mask for f in read_photos(theirs[:3])] == [f.mask for f in read_photos(ours[:3])]


@pytest.mark.parametrize(
    "change",
    [
        _cast("pose_id", pa.int64()),
        _cast("pose_id", pa.float64()),
        _cast("background_id", pa.uint8()),
        _set("has_face", [1] * 8),
        _cast("caption", pa.large_string()),
        _cast("subject_id", pa.string_view()),
        _cast("pose", pa.list_(pa.float64())),
        _cast("pose", pa.large_list(pa.float32())),
        _cast("landmarks", pa.list_(pa.list_(pa.float64(), 2), 5)),
        _dictionaries,
        lambda t: _put(t, "sha256", [text.upper() for text in t["sha256"].to_pylist()], pa.string()),
        _set("sha256", [None] * 8),
        lambda t: t.drop_columns(["sha256", "photo_id", "has_face"]),
        lambda t: t.append_column("note", pa.array(["x"] * 8)),
    ],
)
def test_types_do_not_matter_where_the_values_are_right(whole: pa.Table, tmp_path: Path, change: Change) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours = _load(whole, tmp_path / "ours", tmp_path / "cache")
    assert _plain(_load(change(whole), tmp_path / "theirs", tmp_path / "cache")) == _plain(ours)


def test_boxes_may_be_whole_numbers_and_subjects_too(whole: pa.Table, tmp_path: Path) -> None:
    boxes = _put(whole, "bbox", [[10, 20, 40, 50]] * 8, pa.list_(pa.int64()))
    photos = _load(_put(boxes, "subject_id", [7] * 4 + [12] * 4, pa.int64()), tmp_path, tmp_path / "cache")
    assert {p.bbox for p in photos} == {(10.0, 20.0, 40.0, 50.0)} and {p.subject_id for p in photos} == {"7", "12"}


UNKNOWN = ("pose_id", "pose", "background_id", "background_text", "landmarks", "bbox", "role")


@pytest.mark.parametrize("how", ["null", "left out", "NaN", "of type null"])
def test_what_is_not_known_is_none(whole: pa.Table, tmp_path: Path, how: str) -> None:
    nan = float("nan")
    for name in (*UNKNOWN, "mask", "photo_id", "has_face"):
        if how == "left out":
            whole = whole.drop_columns([name])
        elif how == "of type null":
            whole = _put(whole, name, pa.nulls(8))
        elif how == "null":
            whole = _put(whole, name, pa.nulls(8, whole[name].type))
        elif name in ("pose", "bbox"):
            whole = _put(whole, name, [[nan] * (3 if name == "pose" else 4)] * 8, whole[name].type)
        elif name == "landmarks":
            whole = _put(whole, name, [[[nan, nan]] * 5] * 8, whole[name].type)
        elif name in ("pose_id", "background_id", "has_face"):
            whole = _put(whole, name, [nan] * 8, pa.float64())
        else:
            whole = _put(whole, name, [None if name == "mask" else ""] * 8, whole[name].type)
    photos = _load(whole, tmp_path, tmp_path / "cache")
    for photo in photos:
        assert all(getattr(photo, name) is None for name in (*UNKNOWN, "mask_sha256"))
        assert photo.photo_id == f"{photo.subject_id}:{photo.sha256[:16]}" and not photo.has_face
    assert all(files.mask is None for files in read_photos(photos))
    assert len({p.face_sha256 for p in photos}) == len({p.person_sha256 for p in photos}) == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns(["caption"]), "has no column `caption`"),
        (lambda t: t.append_column("pose", t["pose"]), "has 2 times the column `pose`"),
        (_set("pose_id", ["front"] * 8), "column `pose_id` is string, it must be int32"),
        (_set("caption", [1] * 8), "column `caption` is int64, it must be string"),
        (_set("pose", [[0.0, 0.0]] * 8), "column `pose` is .* in row 0, it must be 3 numbers"),
        (_set("pose", [[0.0, 0.0]] * 8, pa.list_(pa.float32(), 2)), "column `pose` is fixed_size_list"),
        (_set("image", ["a.png"] * 8), "column `image` is string, it must be struct"),
        (_set("subject_id", [None, *["s1"] * 7]), "column `subject_id` lacks a value in row 0"),
        (_one("source", None), "column `source` lacks a value in row 3"),
        (_one("licence", None), "column `licence` lacks a value in row 3"),
        (_one("subject_class", ""), "column `subject_class` lacks a value in row 3"),
        (_one("subject_class", "a\nb"), "column `subject_class` is 'a.*b' in row 3, it must be a name of one line"),
        (_set("split", ["train"] * 7 + ["tset"]), "column `split` is 'tset' in row 7"),
        (_one("role", "gallery"), "column `role` is 'gallery' in row 3, it must be one of"),
        (_set("sha256", ["0" * 64] * 8), "the image in row 0 differs from its `sha256`"),
        (lambda t: pa.concat_tables([t, t.slice(2, 1)]), "the same image occurs twice for subject 's0000'"),
        (_set("photo_id", ["a", "b", "c", "d", "e", "f", "g", "b"]), "two photos have the `photo_id` 'b': row 1 of"),
        (_set("subject_id", ["s1"] * 8), "subject 's1' is in two splits"),
        (_one("has_face", False), "subject 's0000' is said to have a face and to have none: row 0 of .* and row 3 of"),
        (_set("has_face", [2] * 8), "column `has_face` is 2 in row 0, it must be true, false or null"),
        (_set("pose_id", [0.0, 1.0, 0.5, *[0.0] * 5]), r"column `pose_id` is 0\.5 in row 2, it must be a whole number"),
        (_one("background_id", -1), "column `background_id` is -1 in row 3, .* or null where the class is not known"),
        (_one("pose", [0.0, float("nan"), 0.0]), "column `pose` is .* in row 3, it must be 3 numbers"),
        (_one("pose", [0.0, float("inf"), 0.0]), "column `pose` is .* in row 3, it must be 3 numbers"),
        (_one("pose", [0.0, 720.0, 0.0]), "column `pose` is .* in row 3, it must be 3 numbers from -180 to 180"),
        (_one("landmarks", [[float("nan"), 1.0]] * 5), "column `landmarks` is .* in row 3, it must be 5 x 2 numbers"),
        (_one("landmarks", [[300.0, 9.0]] * 5), "row 3 .*: column `landmarks` lies outside of the 64 x 64 pixels"),
        (_one("bbox", [1.0, float("nan"), 3.0, 4.0]), "column `bbox` is .* in row 3, it must be 4 numbers"),
        (_one("bbox", [30.0, 20.0, 16.0, 24.0]), "row 3 .*: column `bbox` is .*, it must be x0, y0, x1, y1 in pixels"),
        (_one("bbox", [0.2, 0.2, 0.7, 0.8]), "row 3 .*: column `bbox` is .*, it must be x0, y0, x1, y1 in pixels"),
        (_one("bbox", [90.0, 20.0, 120.0, 60.0]), "row 3 .*: column `bbox` is .*, outside of the 64 x 64 pixels"),
        (_one("image", None), "column `image` holds neither bytes nor a path in row 3"),
        (_one("image", {"bytes": b"GIF89a", "path": None}), "the image in row 3 differs from its `sha256`"),
        (_pictures([{"bytes": None, "path": "../../secret.png"}] * 8), "names a file outside of the dataset"),
        (_pictures([{"bytes": None, "path": "gone.png"}] * 8), "gone.png, named in row 0"),
    ],
)
def test_what_is_wrong_is_named(whole: pa.Table, tmp_path: Path, change: Change, said: str) -> None:
    with pytest.raises(LikenessError, match=said) as caught:
        _load(change(whole), tmp_path, tmp_path / "cache")
    assert "part-0.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((64, 64)), "row 3 .*: the mask is empty"),
        (np.full((32, 64), 255), "row 3 .*: the mask has 64 x 32 pixels, the image 64 x 64"),
        (np.arange(64 * 64).reshape(64, 64) % 7, "row 3 .*: the mask has levels from 0 to 6 of 255"),
        (None, "row 3 .*: the mask is no readable PNG, JPEG or WebP"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_with_its_row(
    whole: pa.Table, tmp_path: Path, mask: np.ndarray | None, said: str
) -> None:
    data = b"no mask" if mask is None else _png(mask.astype(np.uint8))
    with pytest.raises(LikenessError, match=f"part-0.parquet: {said}") as caught:
        _load(_one("mask", {"bytes": data, "path": None})(whole), tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def _png(array: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", array)[1].tobytes()


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


@pytest.mark.parametrize("note", ["[]", "{}", "[" * 9999, '{"checks": 1}', '"files"', "\udcff"])
def test_what_an_earlier_check_wrote_down_is_not_needed(note: str, whole: pa.Table, tmp_path: Path) -> None:
    first = _plain(_load(whole, tmp_path, tmp_path / "cache"))
    (written,) = (tmp_path / "cache" / "checked").iterdir()
    sound = json.loads(written.read_text())
    written.write_bytes(note.encode("utf-8", "surrogateescape"))
    assert _plain(load_photos(find_shards(str(tmp_path)), tmp_path / "cache")) == first
    assert json.loads(written.read_text()) == sound
    for files in (None, [1, 2], [["a", "b", "c"]]):
        written.write_text(json.dumps({**sound, "files": files}))
        assert _plain(load_photos(find_shards(str(tmp_path)), tmp_path / "cache")) == first


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


def test_a_mask_beside_the_shard_that_was_changed_is_checked_again(whole: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(whole["mask"][3]["bytes"].as_py())
    table = _one("mask", {"bytes": None, "path": "mask.png"})(whole)
    first = _load(table, tmp_path, tmp_path / "cache")
    assert _plain(load_photos(find_shards(str(tmp_path)), tmp_path / "cache")) == _plain(first)
    (tmp_path / "mask.png").write_bytes(_png(np.zeros((64, 64), np.uint8)))
    with pytest.raises(LikenessError, match=r"row 3 .*: the mask is empty"):
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

"""pocket10k: the same bytes everywhere, in the schema, whole or not there."""

import hashlib
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from contracts.errors import LikenessError
from datamodules.image_io import open_image
from datamodules.index import by_subject, held_out_of, load_photos, read_pictures, reference_of
from datamodules.schema import COLUMNS, features
from pocket.render import dataset
from pocket.render.dataset import Grid, fingerprint, pocket10k, rows_of, verify
from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import render

GRID = Grid(subjects=10, poses=3, backgrounds=3)

# SHA-256 of pixels, masks and PNG files as this version of OpenCV makes them.
OPENCV = "5.0.0"
GOLDEN_PIXELS = {
    "s0000": "0fbe2d17db13f91c571b2a0598673d759b50f1f3184deb4540585aea084c6ab6",
    "s0007": "058bb5f244866280ef01a340872207a2795c52dcf920cb87a9482271ec0b9a66",
    "s0249": "3b6a344a9436c7b15483b56e058d7d2eaf9ccc1429f9a3b7c889f2c5172eb42e",
}
GOLDEN_FILES = "098a666f0a8963973b6a66ff90b67e2e9958b476076fefe8c4ff0a8082eebf02"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pocket10k(tmp_path_factory.mktemp("cache"), GRID, processes=1)


@pytest.mark.skipif(cv2.__version__ != OPENCV, reason=f"the stored hashes are those of OpenCV {OPENCV}")
def test_renders_have_the_stored_hashes() -> None:
    found = {}
    for name in GOLDEN_PIXELS:
        digest = hashlib.sha256()
        for i in range(12):  # every background, hats, glasses and all styles
            rendered = render(draw_subject(name), draw_shot(f"golden/{name}/{i}"))
            digest.update(rendered.image.tobytes() + rendered.mask.tobytes())
        found[name] = digest.hexdigest()
    assert found == GOLDEN_PIXELS


@pytest.mark.skipif(cv2.__version__ != OPENCV, reason=f"the stored hashes are those of OpenCV {OPENCV}")
def test_files_have_the_stored_hash() -> None:
    rows = rows_of(3, GRID)
    assert hashlib.sha256("".join(row["sha256"] for row in rows).encode()).hexdigest() == GOLDEN_FILES


def test_the_whole_grid_is_ten_thousand_images_split_by_subject() -> None:
    grid = Grid()
    splits = [grid.split(i) for i in range(grid.subjects)]
    assert grid.name == "pocket10k"
    assert grid.subjects * grid.poses * grid.backgrounds == 10_000
    assert [splits.count(name) for name in ("train", "val", "test")] == [200, 25, 25]


def test_rows_follow_the_schema(folder: Path) -> None:
    assert features().arrow_schema.types == COLUMNS.types
    assert features().arrow_schema.names == COLUMNS.names
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    assert sum(table.num_rows for table in tables) == 90
    for table in tables:
        assert table.column_names == COLUMNS.names
        for row in table.to_pylist():
            assert row["sha256"] == hashlib.sha256(row["image"]["bytes"]).hexdigest()
            image = np.asarray(open_image(row["image"]["bytes"], "image"))
            mask = np.asarray(open_image(row["mask"]["bytes"], "mask").convert("L"))
            assert image.shape == (64, 64, 3)
            assert set(np.unique(mask)) == {0, 255}
            assert np.array(row["landmarks"]).shape == (5, 2)


def test_hugging_face_datasets_reads_it(folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    rows = Dataset.from_parquet(str(next(folder.glob("test-*.parquet"))), cache_dir=str(tmp_path))
    assert rows.features == features()
    assert rows[0]["image"].size == (64, 64)


def test_stored_pixels_are_the_rendered_ones() -> None:
    row = rows_of(9, GRID)[0]
    shot = draw_shot(
        f"s0009/0/{dataset.BACKGROUNDS[row['background_id']]}",
        dataset.POSES[0],
        dataset.BACKGROUNDS[row["background_id"]],
        style="photo",
        accessories=False,
    )
    expected = render(draw_subject("s0009"), shot)
    assert np.array_equal(open_image(row["image"]["bytes"], "image"), expected.image)


def test_each_subject_is_a_full_grid_with_reference_and_held_out_photos(folder: Path, tmp_path: Path) -> None:
    groups = by_subject(load_photos(sorted(folder.glob("*.parquet")), tmp_path))
    assert sorted(groups) == [f"s{i:04d}" for i in range(10)]
    for photos in groups.values():
        assert len({(p.pose_id, p.background_id) for p in photos}) == 9
        reference = reference_of(photos)
        held_out = held_out_of(photos)
        assert reference.pose_id == 0
        assert len(held_out) == 4
        assert all(p.pose_id != 0 and p.background_id != reference.background_id for p in held_out)


def test_only_training_images_vary_in_style_and_accessories_and_captions_are_silent_on_pose(folder: Path) -> None:
    captions: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(path, columns=["split", "caption"]).to_pylist():
            captions.setdefault(row["split"], []).append(row["caption"])
    assert any("wearing" in c for c in captions["train"])
    assert any(c.startswith("a pencil sketch") for c in captions["train"])
    for plain in captions["val"] + captions["test"]:
        assert plain.startswith("a photo of a person")
        assert "wearing" not in plain
    everything = [c for some in captions.values() for c in some]
    assert not [c for c in everything if "looking" in c or "tilted" in c]
    named = sum("eyes" in c for c in everything) / len(everything)
    assert 0.02 < named < 0.35


def test_any_number_of_processes_renders_the_same(folder: Path, tmp_path: Path) -> None:
    again = pocket10k(tmp_path, GRID, processes=2)
    assert dataset._manifest(again)["content_sha256"] == dataset._manifest(folder)["content_sha256"]
    assert again.name == folder.name


def test_what_is_there_is_not_rendered_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert pocket10k(folder.parent, GRID) == folder
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_another_grid_or_renderer_is_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    name = fingerprint(GRID)
    assert name != fingerprint(Grid(10, 3, 4))
    monkeypatch.setattr(cv2, "__version__", "0")
    assert name != fingerprint(GRID)


def test_a_render_that_was_killed_is_not_trusted(tmp_path: Path) -> None:
    code = f"from pocket.render.dataset import Grid, pocket10k; pocket10k({str(tmp_path)!r}, Grid(200, 2, 2), 1)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as child:
        while not list(tmp_path.glob(".*.part/*.parquet")):
            time.sleep(0.01)
            assert child.poll() is None
        child.kill()
    assert not list(tmp_path.glob("pocket-*"))
    assert list(tmp_path.glob(".*.part"))
    verify(pocket10k(tmp_path, Grid(10, 1, 1), processes=1))
    assert not list(tmp_path.glob(".*.part"))


def test_damaged_shards_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pocket10k(tmp_path, Grid(10, 1, 1), processes=1)
    shard = folder / "val-00000-of-00001.parquet"
    whole = shard.read_bytes()
    middle = len(whole) // 2
    shard.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(LikenessError, match=r"val-00000-of-00001.parquet is damaged"):
        verify(folder)
    shard.write_bytes(whole[:-100])
    with pytest.raises(LikenessError, match=r"val-00000-of-00001.parquet was cut short"):
        pocket10k(tmp_path, Grid(10, 1, 1))
    shard.unlink()
    monkeypatch.setattr(dataset, "pocket10k", partial(pocket10k, grid=Grid(10, 1, 1)))
    monkeypatch.setattr(sys, "argv", ["dataset", "--cache-dir", str(tmp_path)])
    capsys.readouterr()
    assert dataset.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "val-00000-of-00001.parquet is missing" in error
    assert error.count("\n") == 1


def test_images_are_read_back_by_photo(folder: Path, tmp_path: Path) -> None:
    photos = load_photos(sorted(folder.glob("*.parquet")), tmp_path)
    wanted = photos[5:60:7]
    read = {p.photo.id: p for p in read_pictures(wanted)}
    assert set(read) == {p.id for p in wanted}
    for photo in wanted:
        assert hashlib.sha256(read[photo.id].image).hexdigest() == photo.sha256
        assert hashlib.sha256(read[photo.id].mask).hexdigest() == photo.mask_sha256

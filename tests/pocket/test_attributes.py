import csv
from pathlib import Path

import pytest

from datamodules.index import load_photos
from pocket.render import attributes
from pocket.render.attributes import attributes_of, factors_of
from pocket.render.dataset import Grid, pocket10k


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pocket10k(tmp_path_factory.mktemp("attributes"), Grid(10, 2, 2), processes=1)


def test_factors_are_those_that_the_photos_were_rendered_from(folder: Path, tmp_path: Path) -> None:
    """Pose is in the dataset, expression and hat are in the captions."""
    for photo in load_photos(sorted(folder.glob("*.parquet")), tmp_path):
        who, shot = factors_of(photo)
        assert photo.pose == pytest.approx((shot.yaw, shot.pitch, shot.roll), abs=1e-4)
        assert photo.caption.startswith({"photo": "a photo", "pencil sketch": "a pencil"}.get(shot.style, "an oil"))
        found = attributes_of(who, shot)
        assert found["smiling"] == 1.0 or "smiling" not in photo.caption
        assert (
            found["hat"] == 1.0
            or shot.hat_colour + " " not in photo.caption.partition("wearing a ")[2].partition(",")[0]
        )


def test_the_command_writes_one_row_per_photo_of_style_photo(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(attributes, "find_shards", lambda _: sorted(folder.glob("*.parquet")))
    monkeypatch.setattr(attributes, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr("sys.argv", ["attributes", "--output", str(tmp_path / "out" / "labels.csv")])
    assert attributes.main() == 0
    rows = list(csv.DictReader((tmp_path / "out" / "labels.csv").open()))
    photos = load_photos(sorted(folder.glob("*.parquet")), tmp_path)
    expected = {p.sha256 for p in photos if factors_of(p)[1].style == "photo"}
    assert {row["sha256"] for row in rows} == expected and len(rows) == len(expected)
    assert all(float(row["face_width"]) > 0.5 for row in rows)


@pytest.mark.parametrize("place", ["folder", "file/labels.csv"])
def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    monkeypatch.setattr(attributes, "find_shards", lambda _: sorted(folder.glob("*.parquet")))
    monkeypatch.setattr(attributes, "cache_folder", lambda: tmp_path / "cache")
    output = tmp_path / "out"
    (output / "folder").mkdir(parents=True)
    (output / "file").touch()
    monkeypatch.setattr("sys.argv", ["attributes", "--output", str(output / place)])
    assert attributes.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --output: ") and "could not be written" in error and error.count("\n") == 1
    assert sorted(path.name for path in output.rglob("*")) == ["file", "folder"]

"""The DreamBooth data set's folder is a data source: photos by subject and a table of classes, without a command."""

import os
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import LikenessError
from datamodules.index import by_subject, held_out_of, load_photos, reference_of
from datamodules.sources import find_shards
from datamodules.subjects import load_subjects
from leaderboard.plan.checks import check_photos
from metrics.judges import Judges, make_galleries
from pocket.tiny.components import tiny_clip, tiny_faces
from tests.helpers.images import encoded

TABLE = """Classes

subject_name,class
backpack,backpack
bear_plushie,stuffed animal
cat2,cat

Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
]
"""


def _folder(root: Path, table: str = TABLE) -> Path:
    """Two subjects of three photos each, one in each format, and what else lies in such a folder."""
    root.mkdir()
    (root / "prompts_and_classes.txt").write_text(table)
    (root / "references_and_licenses.txt").write_text("https://example.org")
    for i, subject in enumerate(("bear_plushie", "cat2")):
        (root / subject).mkdir()
        (root / subject / ".DS_Store").write_bytes(b"x")
        for k, (name, form) in enumerate((("00.jpg", "JPEG"), ("01.PNG", "PNG"), ("02.webp", "WEBP"))):
            level = 5 if k != 1 else 150  # the tiny detector finds a face in everything that is not dark
            pixels = np.full((48, 64, 3), level, np.uint8)
            pixels[:8, :8] = 3 * i
            (root / subject / name).write_bytes(encoded(pixels, form))
    return root


def test_the_folder_is_a_dataset(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "dreambooth")
    (shard,) = find_shards(str(folder), tmp_path / "cache")
    assert shard.is_relative_to(tmp_path / "cache")
    photos = load_photos([shard], tmp_path / "cache")
    assert {p.subject_id: p.subject_class for p in photos} == {"bear_plushie": "stuffed animal", "cat2": "cat"}
    assert {p.caption for p in photos} == {"a photo of a stuffed animal", "a photo of a cat"}
    for photo in photos:
        assert photo.split == "test" and not photo.has_face and photo.role is None
        assert photo.pose is photo.pose_id is photo.background_id is photo.bbox is photo.landmarks is None
    for subject, own in by_subject(photos).items():
        assert reference_of(own).photo_id == f"{subject}/00.jpg" and len(held_out_of(own)) == 2


def test_it_is_written_once_for_its_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "dreambooth")
    (first,) = find_shards(str(folder), tmp_path / "cache")
    assert "reading" in capsys.readouterr().err
    written = first.stat().st_mtime_ns
    (folder / "cat2" / "notes.txt").write_text("not a photo")
    assert find_shards(str(folder), tmp_path / "cache") == [first] and first.stat().st_mtime_ns == written
    assert "reading" not in capsys.readouterr().err
    assert find_shards(str(_folder(tmp_path / "moved")), tmp_path / "cache") == [first], "wherever it lies"
    (folder / "cat2" / "03.png").write_bytes(encoded(np.full((48, 48, 3), 7, np.uint8)))
    (second,) = find_shards(str(folder), tmp_path / "cache")
    assert second != first and len(load_photos([second], tmp_path / "cache")) == 7
    assert not list((tmp_path / "cache").rglob(".*")), "nothing is left half-written"


def test_a_false_face_in_one_photo_costs_no_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    subjects = load_subjects(str(_folder(tmp_path / "dreambooth")), 2, 64)
    judges = Judges(str(tiny_faces(tmp_path / "faces")), str(tiny_clip(tmp_path / "clip")))
    seen = {subject.id: judges.observe(subject.photos) for subject in subjects}
    assert sum(int(one.judged.found.sum()) for one in seen.values()) == 2, "the detector is wrong twice"
    check_photos(subjects, seen)
    assert not any(gallery.has_face for gallery in make_galleries(subjects, seen).values())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("Prompts\n", "has no table of classes, which begins with the line `subject_name,class`"),
        ("subject_name,class\ncat2,cat\n", r"has no class for the folder 'bear_plushie': add the line `bear_plushie,"),
        ("subject_name,class\ncat2\n", "the line 'cat2' of the table of classes is not `subject,class`"),
        ("subject_name,class\ncat2,cat\ncat2,dog\n", "the line 'cat2,dog' of the table of classes is not"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(LikenessError, match=said) as caught:
        find_shards(str(_folder(tmp_path / "dreambooth", table)), tmp_path / "cache")
    assert "prompts_and_classes.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_folders_and_files_that_are_no_photos_are_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "dreambooth")
    (folder / "backpack").mkdir()
    with pytest.raises(LikenessError, match=r"backpack holds no photo \(.jpg, .jpeg, .png, .webp\)"):
        find_shards(str(folder), tmp_path / "cache")
    (folder / "backpack" / "00.jpg").write_text("this is text")
    with pytest.raises(LikenessError, match=r"test.parquet: row 0 \(backpack/00.jpg\): the image is no readable"):
        load_photos(find_shards(str(folder), tmp_path / "cache"), tmp_path / "cache")
    (folder / "backpack" / "00.jpg").unlink()
    os.mkfifo(folder / "backpack" / "00.jpg")
    with pytest.raises(LikenessError, match=r"00.jpg' is a pipe"):
        find_shards(str(folder), tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "prompts_and_classes.txt").write_text(TABLE)
    with pytest.raises(LikenessError, match="no folder of photos for a subject"):
        find_shards(str(tmp_path / "empty"), tmp_path / "cache")


@pytest.mark.skipif("LIKENESS_REAL" not in os.environ, reason="no folder of real photos is named")
def test_the_real_folder_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    real = Path(os.environ["LIKENESS_REAL"])
    subjects = load_subjects(str(real / "objects"), 6, 256)
    judges = Judges(str(real / "faces_open"), str(tiny_clip(tmp_path / "clip")))
    seen = {subject.id: judges.observe(subject.photos) for subject in subjects}
    check_photos(subjects, seen)
    assert not any(gallery.has_face for gallery in make_galleries(subjects, seen).values())

"""The whole way, on photos of pocket people: what is kept, why the others are not, and what a second run does."""

import hashlib
import io
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contracts.errors import LikenessError
from contracts.lock import LOCK, folder_lock
from curation import looks as looking
from curation.build import curate
from curation.report import Report
from datamodules.index import load_photos, read_photos
from datamodules.masks import person_mask
from datamodules.sources import find_shards
from pocket.models.paths import CLIP
from tests.helpers.photos import encoded, group, people, photo, rendered, settings, write

SUBJECTS = ("q0", "q1", "q2")
COUNT = 4


def rows(out: Path) -> list[dict]:
    return [row for path in sorted((out / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def hashes(out: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.rglob("*") if p.suffix in (".parquet", ".html")
    }


def turned(pixels: np.ndarray) -> bytes:
    """A JPEG that lies on its side and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.ascontiguousarray(np.rot90(pixels)), "JPEG", quality=95, exif=exif)


class Spoilt:
    """People with photos that are spoilt on purpose, and the dataset that was made of them."""

    def __init__(self, root: Path) -> None:
        self.photos = people(root / "photos", SUBJECTS, COUNT)
        sharp, half = photo("q0", 4), encoded(photo("q1", 5), "JPEG")
        green = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
        write(
            self.photos,
            {
                "q0/blurred.png": encoded(cv2.GaussianBlur(sharp, (0, 0), 4)),
                "q0/group.jpg": encoded(group("q9", "q0"), "JPEG", quality=95),
                "q0/again.jpg": encoded(photo("q0", 1, 100), "JPEG", quality=80),
                "q1/other.png": encoded(photo("q8", 2)),
                "q1/others.png": encoded(group("q6", "q9")),
                "q1/turned.jpg": turned(photo("q1", 4)),
                "q1/half.jpg": half[: len(half) // 2],
                "q2/nobody.png": encoded(np.full((128, 128, 3), 7, np.uint8)),
                "q2/small.png": encoded(photo("q2", 4, 48)),
                "q2/text.jpg": "no photo at all",
                os.fsdecode(b"q2/\xff.jpg"): "no photo, and no name",
                "q2/empty.png": (green.save(buffer := io.BytesIO(), "PNG"), buffer.getvalue())[1],
                "lonely/one.png": encoded(photo("q7", 0)),
            },
        )
        self.out = root / "out"
        self.report = curate(str(self.photos), str(self.out), self.settings())

    def settings(self, **given: object) -> object:
        return settings(clip=str(CLIP), backgrounds=3, shares=[0.5, 0.0, 0.5], **given)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Spoilt:
    return Spoilt(tmp_path_factory.mktemp("spoilt"))


def test_each_spoilt_photo_has_its_reason(spoilt: Spoilt) -> None:
    reasons = {one.name: (one.reason, one.detail) for one in spoilt.report.dropped}
    assert {name: reason for name, (reason, _) in reasons.items()} == {
        "q0/blurred.png": "blurred",
        "q0/again.jpg": "near-duplicate",
        "q1/other.png": "another person",
        "q1/others.png": "nobody agrees",
        "q1/half.jpg": "unreadable",
        "q2/nobody.png": "no face",
        "q2/small.png": "too small",
        "q2/text.jpg": "unreadable",
        r"q2/\udcff.jpg": "unreadable",
        "q2/empty.png": "unreadable",
        "lonely/one.png": "only photo",
    }
    assert "q0/01.png" in reasons["q0/again.jpg"][1]
    assert "none of its 2 faces" in reasons["q1/others.png"][1]
    assert "transparent" in reasons["q2/empty.png"][1]
    page = (spoilt.out / "report.html").read_text()
    assert all(name in page and reason in page for name, (reason, _) in reasons.items())
    assert "http" not in page.replace("http-equiv", "")


def test_the_rest_is_kept_with_the_right_face(spoilt: Spoilt) -> None:
    found = {row["original"]: row for row in rows(spoilt.out)}
    usual = {f"{s}/{n:02d}.png" for s in SUBJECTS for n in range(COUNT)}
    assert set(found) == usual | {"q0/group.jpg", "q1/turned.jpg"}
    # Of the group the smaller face on the right is the subject's.
    crop = np.asarray(Image.open(io.BytesIO(found["q0/group.jpg"]["image"]["bytes"]))).astype(float)
    scene, side = group("q9", "q0"), len(crop)
    assert min(np.abs(crop - scene[y : y + side, -side:]).mean() for y in range(129 - side)) < 6
    x0, y0, x1, y1 = found["q0/group.jpg"]["bbox"]
    assert 0 < x0 < side / 2 < x1 < side and 0 < y0 < y1 < side
    upright = np.asarray(Image.open(io.BytesIO(found["q1/turned.jpg"]["image"]["bytes"]))).astype(float)
    assert np.abs(upright - photo("q1", 4)).mean() < 6
    same = found["q0/00.png"]
    assert same["image"]["bytes"] == (spoilt.photos / "q0/00.png").read_bytes()
    assert {row["mask_from"] for row in found.values()} <= {"grabcut", "region"}
    assert all(row["caption"].startswith("a photo of a person") for row in found.values())
    assert {row["caption_from"] for row in found.values()} <= {"clip", "template"}
    assert len({row["caption"] for row in found.values()}) > 2
    assert all(row["agreement"] > 0.3 and row["pose_from"] == "landmarks" for row in found.values())


def test_the_dataset_loads_and_says_who_is_held_out(spoilt: Spoilt, tmp_path: Path) -> None:
    photos = load_photos(find_shards(str(spoilt.out)), tmp_path)
    assert len(photos) == 3 * COUNT + 2 and all(p.has_face for p in photos)
    for files in read_photos(photos):
        mask = person_mask(files)
        assert mask is not None and 0.05 < (mask > 0).mean() < 0.9
    for subject in SUBJECTS:
        own = [p for p in photos if p.subject_id == subject]
        roles = [p.role for p in own]
        assert own[0].split in ("train", "test")
        if own[0].split == "test":
            assert roles.count("reference") == 1 and roles.count("held_out") == len(own) - 1
        else:
            assert set(roles) == {None}
    assert {p.background_id for p in photos} == {0, 1, 2}


def test_a_second_run_does_nothing_and_writes_the_same(spoilt: Spoilt, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashes(spoilt.out)

    def fail(*_: object) -> None:
        raise AssertionError("a photo was opened again")

    monkeypatch.setattr(looking, "read_picture", fail)
    report = curate(str(spoilt.photos), str(spoilt.out), spoilt.settings())
    assert hashes(spoilt.out) == before and not report.changed


def test_a_new_start_writes_the_same_bytes(spoilt: Spoilt, tmp_path: Path) -> None:
    curate(str(spoilt.photos), str(tmp_path / "out"), spoilt.settings())
    assert hashes(tmp_path / "out") == hashes(spoilt.out)


def test_more_people_move_nobody_and_who_is_gone_is_gone(spoilt: Spoilt, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(spoilt.photos, photos)
    shutil.copytree(spoilt.out, out)
    people(photos, ["q3", "q4"], 3)
    curate(str(photos), str(out), spoilt.settings())
    old = {row["original"]: (row["split"], row["role"], row["sha256"]) for row in rows(spoilt.out)}
    new = {row["original"]: (row["split"], row["role"], row["sha256"]) for row in rows(out)}
    assert old.items() <= new.items() and len(new) == len(old) + 6
    shutil.rmtree(photos / "q3")
    shutil.rmtree(photos / "q1")
    curate(str(photos), str(out), spoilt.settings())
    assert {row["subject_id"] for row in rows(out)} == {"q0", "q2", "q4"}
    kept = b"".join(path.read_bytes() for path in (out / ".work").iterdir())
    gone = next(row for row in rows(spoilt.out) if row["subject_id"] == "q1")
    assert gone["image"]["bytes"] not in kept


def test_given_masks_and_captions_move_with_the_crop(tmp_path: Path) -> None:
    scene = np.full((240, 360, 3), 180, np.uint8)
    scene[60:180, 200:320] = photo("q0", 0, 120)
    mask = np.zeros((240, 360), np.uint8)
    mask[90:240, 230:290] = 1
    render = rendered("q0", 2)
    cut_out = cv2.resize(np.dstack([render.image, render.mask]), (128, 128), interpolation=cv2.INTER_CUBIC)
    write(
        tmp_path / "photos",
        {
            "q0/wide.png": encoded(scene),
            "q0/wide_mask.png": encoded(mask),
            "q0/wide.txt": "somebody\nin a field",
            "q0/plain.png": encoded(photo("q0", 1)),
            "q0/plain_mask.png": encoded(mask),
            "q0/cut.png": encoded(cut_out),
        },
    )
    report = curate(str(tmp_path / "photos"), str(tmp_path / "out"), settings(masks="given", test_only=True))
    found = {row["original"]: row for row in rows(tmp_path / "out")}
    wide = found["q0/wide.png"]
    side = Image.open(io.BytesIO(wide["image"]["bytes"])).size[0]
    assert side < 240
    inside = np.asarray(Image.open(io.BytesIO(wide["mask"]["bytes"]))) > 127
    nose = np.rint(wide["landmarks"][2]).astype(int)
    assert inside[nose[1], nose[0]] and not inside[:, :5].any()
    assert (wide["mask_from"], wide["caption"], wide["caption_from"]) == ("file", "somebody in a field", "file")
    assert found["q0/plain.png"]["mask"] is None
    assert any("360 x 240" in note for note in report.notes)
    assert found["q0/cut.png"]["mask_from"] == "alpha"


def test_objects_need_no_face_pack(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        image = np.full((100, 150, 3), rng.integers(0, 255, 3), np.uint8)
        image[:, :, 1] += rng.integers(0, 30, (100, 150), np.uint8)
        cv2.circle(image, (95 + 5 * number, 50), 25, (220, 30 * number, 40), -1)
        write(tmp_path / "photos", {f"ball {number % 2}/{number}.png": encoded(image)})
    given = settings(faces=None, objects=True, noun="ball", test_only=True)
    report = curate(str(tmp_path / "photos"), str(tmp_path / "out"), given)
    found = rows(tmp_path / "out")
    assert len(found) == 6 and not report.dropped
    for row in found:
        assert row["has_face"] is False and row["landmarks"] is row["bbox"] is row["pose"] is None
        assert row["subject_class"] == "ball" and Image.open(io.BytesIO(row["image"]["bytes"])).size == (100, 100)
    photos = load_photos(find_shards(str(tmp_path / "out")), tmp_path)
    assert not any(p.has_face for p in photos)


def test_a_stopped_run_leaves_the_old_dataset_whole_and_goes_on(
    spoilt: Spoilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(spoilt.photos, photos)
    shutil.copytree(spoilt.out, out)
    people(photos, ["q5"], 3)
    before = hashes(out / "data")

    def stop(*_: object) -> Report:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("curation.shards._hashes", stop)
        with pytest.raises(KeyboardInterrupt):
            curate(str(photos), str(out), spoilt.settings())
    assert hashes(out / "data") == before
    assert len(find_shards(str(out))) == len(before)
    curate(str(photos), str(out), spoilt.settings())
    assert {row["subject_id"] for row in rows(out)} == {*SUBJECTS, "q5"}
    assert not [path for path in out.iterdir() if path.name.startswith(".data")]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    photos = people(tmp_path / "photos", ["q0"], 2)
    write(tmp_path / "out", {"thesis.txt": "x"})
    with pytest.raises(LikenessError, match="is not empty and holds no curation"):
        curate(str(photos), str(tmp_path / "out"), settings())
    with pytest.raises(LikenessError, match="lies among the photos"):
        curate(str(photos), str(photos / "out"), settings())
    with pytest.raises(LikenessError, match="--faces is missing"):
        curate(str(photos), str(tmp_path / "new"), settings(faces=None))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_folder_in_use_is_left_alone_and_given_back(tmp_path: Path) -> None:
    photos, out = people(tmp_path / "photos", ["q0"], 2), tmp_path / "out"
    given = settings(objects=True, faces=None, masks="none")
    with folder_lock(out):
        with pytest.raises(LikenessError, match=f"'{out}' is in use by"):
            curate(str(photos), str(out), given)
        assert [path.name for path in out.iterdir()] == [LOCK]
    out.mkdir()
    (out / LOCK).write_text("")  # of a curation that was killed before it kept anything
    assert curate(str(photos), str(out), given).kept == 2
    assert not (out / LOCK).exists()


@pytest.mark.parametrize("part", [".work", "data", ".data.new", ".data.old", "report.html", ".lock"])
def test_nothing_is_written_or_deleted_behind_a_link_in_the_folder(part: str, tmp_path: Path) -> None:
    photos, out = people(tmp_path / "photos", ["q0"], 2), tmp_path / "out"
    theirs = write(tmp_path / "theirs", {"looks-0.records": "x", "train-00000.parquet": "x", "page": "x"})
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    (out / ".work").mkdir(parents=True)
    if part == ".work":
        (out / part).rmdir()
    (out / part).symlink_to(theirs / "page" if part in ("report.html", ".lock") else theirs)
    given = settings(objects=True, faces=None, masks="none")
    if part in (".work", ".lock"):
        with pytest.raises(LikenessError, match=r"is a link|cannot be written to"):
            curate(str(photos), str(out), given)
    else:
        curate(str(photos), str(out), given)
        assert len(rows(out)) == 2 and not (out / part).is_symlink()
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before

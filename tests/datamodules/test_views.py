"""Which photo is the reference, which are held out, and who has a face: as the dataset says, else by one rule."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from contracts.errors import LikenessError
from datamodules.image_io import read_square
from datamodules.index import Photo, by_subject, held_out_of, load_photos, read_photos, reference_of, references_of
from datamodules.schema import features
from datamodules.subjects import load_subjects, photos_hash
from pocket.render.dataset import Grid, rows_of
from tests.helpers.images import encoded


def _rows(*subjects: int, **changes: Any) -> list[dict[str, Any]]:
    return [row | changes for subject in subjects for row in rows_of(subject, Grid(20, 2, 3))]


def _write(rows: list[dict[str, Any]], folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    Dataset.from_list(rows, features=features()).to_parquet(folder / "part.parquet")
    return str(folder)


def _load(rows: list[dict[str, Any]], folder: Path) -> list[Photo]:
    return load_photos([Path(_write(rows, folder)) / "part.parquet"], folder / "cache")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    """Two poses before three backgrounds, of which the dataset does not say what they are for."""
    return _load(_rows(19, role=None), tmp_path_factory.mktemp("views"))


def test_a_dataset_says_what_is_reference_and_what_is_held_out(photos: list[Photo]) -> None:
    said = [replace(p, role={1: "held_out", 4: "reference", 5: "held_out"}.get(i)) for i, p in enumerate(photos)]
    assert reference_of(said) == said[4] and held_out_of(said) == [said[1], said[5]]


def test_all_but_the_references_are_held_out(photos: list[Photo]) -> None:
    front = min(photos, key=lambda p: np.hypot(*p.pose[:2]))
    assert reference_of(photos) == front
    assert held_out_of(photos) == [p for p in photos if p != front]
    two = [replace(p, role="reference") if i > 3 else p for i, p in enumerate(photos)]
    assert reference_of(two) in two[4:] and held_out_of(two) == two[:4]
    some = [replace(p, role="held_out") if p == front else p for p in photos]
    assert reference_of(some) != front and [p.id for p in held_out_of(some)] == [front.id]


def test_several_references_differ_from_one_another_and_are_never_held_out(photos: list[Photo]) -> None:
    """Six photos: two poses before three backgrounds."""
    two, four = references_of(photos, 2), references_of(photos, 4)
    assert two[0] == references_of(photos, 1)[0] == reference_of(photos) and four[:2] == two
    assert two[1].pose_id != two[0].pose_id and two[1].background_id != two[0].background_id
    assert held_out_of(photos, 4) == [p for p in photos if p not in four]
    first = reference_of(photos)
    roles = {p.id: "reference" if p == first else "held_out" if i % 2 else None for i, p in enumerate(photos)}
    said = [replace(p, role=roles[p.id]) for p in photos]
    open_ones = sum(p.role is None for p in said)
    every = references_of(said, 1 + open_ones)
    assert [p.role for p in every] == ["reference"] + [None] * open_ones, "what the dataset leaves open comes behind"
    assert held_out_of(said, 1 + open_ones) == held_out_of(said) == [p for p in said if p.role == "held_out"]
    with pytest.raises(LikenessError, match=rf"has {1 + open_ones} photos that a method may see, x asks for 6: add"):
        references_of(said, 6, "x")
    named = [replace(p, role="reference" if i > 3 else None) for i, p in enumerate(photos)]
    assert {p.id for p in references_of(named, 2)} == {p.id for p in named[4:]}
    with pytest.raises(LikenessError, match="has 2 photos"):
        references_of(named, 3)
    assert held_out_of(named, 1) == held_out_of(named, 2) == named[:4], "a reference is not held out, seen or not"
    with pytest.raises(LikenessError, match="has 1 photo that a method may see, references asks for 4"):
        references_of(photos[:1], 4)


def test_the_reference_is_frontal_by_pose_then_by_class_then_by_name(photos: list[Photo]) -> None:
    turned = [replace(p, pose=(40.0 - i, 0.0, 90.0), pose_id=i) for i, p in enumerate(photos)]
    assert reference_of(turned) == turned[-1], "yaw counts, roll does not"
    assert reference_of([replace(turned[-1], pose=None), *turned[:-1]]) == turned[-2], "a known pose goes first"
    classes = [replace(p, pose=None) for p in photos]
    assert reference_of(classes[::-1]) == classes[0]
    names = [replace(p, pose_id=None, background_id=None, photo_id=f"p{9 - i}") for i, p in enumerate(classes)]
    assert reference_of(names) == names[-1]


def test_a_subject_of_one_photo_or_held_out_throughout_is_named(photos: list[Photo]) -> None:
    with pytest.raises(LikenessError, match=r"'s0019' has no photo besides its reference \(row 0 of"):
        held_out_of(photos[:1])
    with pytest.raises(LikenessError, match=r"'s0019' has no photo to be the reference: all have the `role` held_out"):
        reference_of([replace(p, role="held_out") for p in photos])


def test_the_pocket_world_keeps_its_reference_and_its_held_out_photos(tmp_path: Path) -> None:
    for own in by_subject(_load(_rows(0, 19), tmp_path)).values():
        first = min(own, key=lambda p: (p.pose_id, p.background_id, p.sha256))
        apart = [p for p in own if p.pose_id != first.pose_id and p.background_id != first.background_id]
        assert reference_of(own) == first and held_out_of(own) == apart
        assert all(p.photo_id == f"{p.subject_id}:{p.sha256[:16]}" and p.has_face for p in own)


def _faced(rows: list[dict[str, Any]], folder: Path) -> dict[str, set[bool]]:
    return {name: {p.has_face for p in own} for name, own in by_subject(_load(rows, folder)).items()}


def test_who_has_a_face_is_said_by_subject_by_class_or_by_boxes(tmp_path: Path) -> None:
    unsaid = {"has_face": None, "bbox": None, "landmarks": None}
    people, toys = _rows(18, has_face=None), _rows(19, **unsaid, subject_class="toy")
    assert _faced(people + toys, tmp_path) == {"s0018": {True}, "s0019": {False}}
    toys[2]["landmarks"] = people[0]["landmarks"]
    assert _faced(people + toys, tmp_path)["s0019"] == {True}, "one photo with landmarks is enough where nobody says it"
    toys[0]["has_face"] = False
    assert _faced(people + toys, tmp_path)["s0019"] == {False}, "one row says it for its subject"
    others = _rows(17, **unsaid, subject_class="toy", split="test")
    others[1]["bbox"] = people[0]["bbox"]
    assert _faced(people + toys + others, tmp_path)["s0017"] == {False}, "and for its class"
    others[0]["has_face"] = True
    assert _faced(people + toys + others, tmp_path) == {"s0018": {True}, "s0019": {False}, "s0017": {True}}


def test_subjects_have_what_is_known_of_their_photos(tmp_path: Path) -> None:
    rows = _rows(18)
    for i, row in enumerate(rows):
        row["role"] = "reference" if i == 0 else None
    for name, value in (("pose", None), ("background_id", None), ("background_text", None), ("bbox", None)):
        rows[2][name] = value
    (subject,) = load_subjects(_write(rows, tmp_path), 1, 32)
    assert subject.has_face and len(subject.held_out) == 5 and subject.mask is not None
    assert subject.boxes is not None and subject.boxes.shape == (6, 4) and subject.boxes.dtype == np.float32
    for known in (np.isfinite(subject.poses).all(1), subject.backgrounds >= 0, np.isfinite(subject.boxes).all(1)):
        assert known.tolist() == [True, True, False, True, True, True]
    assert [bool(text) for text in subject.background_texts] == [True, True, False, True, True, True]
    np.testing.assert_allclose(subject.boxes[0], np.array(rows[0]["bbox"]) / 2, rtol=1e-6)
    nothing = [row | {"bbox": None, "mask": None} for row in rows]
    (bare,) = load_subjects(_write(nothing, tmp_path), 1, 32)
    assert bare.boxes is None and bare.mask is None and bare.cut_out.shape == (32, 32, 3)


def test_boxes_are_those_of_the_central_square(tmp_path: Path) -> None:
    """A tall photo: 100 x 200 pixels, of which the rows 50 to 150 are seen."""
    rows = _rows(18, landmarks=None, mask=None, sha256=None, photo_id=None, role=None)[:3]
    for i, row in enumerate(rows):
        row["image"] = {"bytes": encoded(np.full((200, 100, 3), 90 + i, np.uint8)), "path": None}
        row["bbox"] = [20.0, 60.0, 70.0, 130.0]
    (subject,) = load_subjects(_write(rows, tmp_path), 1, 50)
    assert subject.boxes is not None
    np.testing.assert_allclose(subject.boxes, [[10.0, 5.0, 35.0, 40.0]] * 3)


def test_a_protocol_may_say_that_a_class_has_no_face(tmp_path: Path) -> None:
    source = _write(_rows(18) + _rows(19, subject_class="toy"), tmp_path)
    plain, overruled = load_subjects(source, 2, 32), load_subjects(source, 2, 32, faceless=["toy"])
    assert [s.has_face for s in plain] == [True, True] and [s.has_face for s in overruled] == [True, False]
    assert photos_hash(plain) != photos_hash(overruled), "it decides what is measured, so it is part of the protocol"
    assert [s.has_face for s in load_subjects(source, 1, 32, faceless=["toy"])] == [True], "which is not among them"
    with pytest.raises(LikenessError, match=r"protocol.faceless: no test subject is a hat; there are person, toy"):
        load_subjects(source, 2, 32, faceless=["hat"])


def test_a_turned_photo_and_its_mask_are_one(tmp_path: Path) -> None:
    """The mask is of the stored bitmap: it is turned with the photo, or refused where nobody can tell."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[5:20, 30:50] = 200
    mask = (picture[..., 0] > 0).astype(np.uint8)
    row = _rows(18, sha256=None, photo_id=None, bbox=None, landmarks=None)[0]
    row["image"] = {"bytes": encoded(picture, "JPEG", exif=exif, quality=100), "path": None}
    row["mask"] = {"bytes": encoded(mask), "path": None}
    (photo,) = _load([row], tmp_path)
    (files,) = read_photos([photo])
    from datamodules.masks import square_person_mask

    square, seen = square_person_mask(files, 40), read_square(files.image, "x", 40)
    assert square is not None and np.array_equal(square > 128, seen[..., 0] > 100)
    row["image"] = {"bytes": encoded(picture[:, :40], "JPEG", exif=exif), "path": None}
    row["mask"] = {"bytes": encoded(mask[:, :40]), "path": None}
    with pytest.raises(LikenessError, match=r"part.parquet: row 0: the mask may lie like the stored image or like"):
        _load([row], tmp_path)

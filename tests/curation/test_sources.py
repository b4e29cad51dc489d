"""What is found in a folder of photos, and what is said of it."""

import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature

from contracts.errors import LikenessError
from curation.sources import list_photos
from tests.helpers.photos import encoded, settings, write

DOT = encoded(np.zeros((8, 8, 3), np.uint8))


def test_a_folder_per_subject_with_captions_and_masks_beside(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "anna/1.jpg": DOT,
            "anna/1.txt": "a woman\r\n on a beach\u0085 ",
            "anna/1_mask.png": DOT,
            "anna/2.PNG": DOT,
            "anna/2.mask.png": DOT,
            "ben/holiday/3.webp": DOT,
            "train/cat/4.jpg": DOT,
            ".hidden/4.jpg": DOT,
            "anna/.DS_Store": "x",
            "anna/notes.mov": "x",
            "5.jpg": DOT,
        },
    )
    listing = list_photos(str(tmp_path), settings(noun="woman"))
    assert [(p.name, p.subject, p.mask is not None) for p in listing.photos] == [
        ("anna/1.jpg", "anna", True),
        ("anna/2.PNG", "anna", True),
        ("ben/holiday/3.webp", "ben", False),
        ("train/cat/4.jpg", "cat", False),
    ]
    first = listing.photos[0].facts
    assert (first.caption, first.subject_class, first.has_face, first.consent) == (
        "a woman on a beach",
        "woman",
        True,
        "nobody real",
    )
    assert {name for name, _ in listing.left_out} == {"anna/notes.mov", "5.jpg"}


def test_an_image_folder_of_hugging_face(tmp_path: Path) -> None:
    table = (
        "file_name,subject,text,split,license,mask_file_name,has_face\n"
        'a.jpg,Anna,"two\nlines",validation,CC0,masks/a.png,yes\n'
        "sub/b.jpg,Anna,,validation,,,yes\n"
        "../../etc/passwd.jpg,Eve,,,,,\n"
        "gone.jpg,Eve,,,,,\n"
    )
    write(
        tmp_path,
        {
            "set/metadata.csv": "\ufeff" + table,
            "set/a.jpg": DOT,
            "set/sub/b.jpg": DOT,
            "set/masks/a.png": DOT,
            "more/metadata.jsonl": '{"file_name": "c.jpg", "subject_id": 7, "caption": "x\u2028y"}\n',
            "more/c.jpg": DOT,
        },
    )
    listing = list_photos(str(tmp_path), settings())
    facts = {p.name: p.facts for p in listing.photos}
    assert set(facts) == {"set/a.jpg", "set/sub/b.jpg", "more/c.jpg"}
    one = facts["set/a.jpg"]
    assert (one.subject_id, one.caption, one.split, one.licence) == ("anna", "two lines", "val", "CC0")
    assert facts["set/sub/b.jpg"].licence == "Apache-2.0"
    assert facts["more/c.jpg"].subject_id == "7"
    reasons = dict(listing.left_out)
    assert "outside of the folder" in reasons["../../etc/passwd.jpg"]
    assert "no such file" in reasons["gone.jpg"]


def test_parquet_of_an_image_dataset(tmp_path: Path) -> None:
    kinds = Features({"image": ImageFeature(), "label": ClassLabel(names=["ann", "bob"]), "text": Value("string")})
    rows = [{"image": {"bytes": DOT, "path": None}, "label": i % 2, "text": f"no {i}"} for i in range(5)]
    Dataset.from_list(rows, features=kinds).to_parquet(tmp_path / "train.parquet", batch_size=2)
    write(tmp_path, {"README.md": "x", "thumb.jpg": DOT})
    listing = list_photos(str(tmp_path), settings())
    assert [p.subject for p in listing.photos] == ["ann", "bob", "ann", "bob", "ann"]
    assert [name for name, _ in listing.left_out] == ["thumb.jpg"]
    assert [p.facts.caption for p in listing.photos] == [f"no {i}" for i in range(5)]
    assert all(p.image.read() == DOT for p in listing.photos)
    assert len({p.image.stamp for p in listing.photos}) == 5
    rows[1]["label"] = -1  # what `datasets` writes where a photo has no label
    Dataset.from_list(rows, features=kinds).to_parquet(tmp_path / "train.parquet", batch_size=2)
    listing = list_photos(str(tmp_path), settings())
    assert [p.subject for p in listing.photos] == ["ann", "ann", "bob", "ann"]
    assert next(reason for name, reason in listing.left_out if name == "train.parquet:0:1").startswith("no subject")
    pq.write_table(pa.table({"picture": [DOT]}), tmp_path / "train.parquet")
    with pytest.raises(LikenessError, match="no column `image`"):
        list_photos(str(tmp_path), settings())


def test_a_table_of_subjects_may_stand_below_other_text(tmp_path: Path) -> None:
    text = "Classes\n\nsubject_name,class\ndog,dog\nvase,big vase\n\nPrompts\na photo, of it\n"
    write(tmp_path, {"table.txt": text, "set/dog/1.jpg": DOT, "set/vase/1.jpg": DOT, "set/cup/1.jpg": DOT})
    given = settings(objects=True, noun="thing", subjects=str(tmp_path / "table.txt"))
    listing = list_photos(str(tmp_path / "set"), given)
    assert {p.subject: p.facts.subject_class for p in listing.photos} == {
        "dog": "dog",
        "vase": "big vase",
        "cup": "thing",
    }
    assert not any(p.facts.has_face for p in listing.photos)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no photo of a subject"),
        ({"a.jpg": DOT}, "holds no photo of a subject"),
        ({"Anna/1.jpg": DOT, "anna/1.jpg": DOT}, "'Anna' and 'anna' differ in case or marks only"),
        ({"Jörg K./1.jpg": DOT, "jorg-k/1.jpg": DOT}, "both become 'jorg-k'"),
        ({"a/1.jpg": DOT, "metadata.csv": "name\nx\n"}, "has no line with a column `file_name`"),
        ({"a/1.jpg": DOT, "metadata.csv": "file_name,split\na/1.jpg,sometimes\n"}, "`split` is 'sometimes'"),
        ({"a/1.jpg": DOT, "metadata.csv": "file_name,role\na/1.jpg,lead\n"}, "`role` is 'lead'"),
        ({"a/1.jpg": DOT, "metadata.jsonl": "{\n"}, "line 1 of .* is no JSON"),
        ({"a/1.jpg": DOT, "metadata.jsonl": '{"text": "x"}'}, "line 1 of .* has no `file_name`"),
        ({"a/1.jpg": DOT, "metadata.csv": b"file_name\n\xff\xfe"}, "it must be text in UTF-8"),
        (
            {"a/1.jpg": DOT, "a/2.jpg": DOT, "metadata.csv": "file_name,split\na/1.jpg,test\na/2.jpg,train\n"},
            "subject 'a' has two values of `split`: test and train",
        ),
        ({"a/x.parquet": b"PAR1"}, "is not a whole Parquet file"),
    ],
)
def test_what_cannot_be_meant_is_one_line(files: dict[str, bytes | str], words: str, tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=words) as caught:
        list_photos(str(write(tmp_path, files)), settings())
    assert "\n" not in str(caught.value)


def test_a_dataset_of_the_hub_is_not_downloaded_unasked() -> None:
    with pytest.raises(LikenessError, match="neither a folder nor in the hub's local cache"):
        list_photos("somebody/photos", settings())
    with pytest.raises(LikenessError, match="is missing"):
        list_photos("no/such/folder", settings())


def test_names_with_emoji_and_spaces_have_ids_of_their_own(tmp_path: Path) -> None:
    table = "subject_id,subject_class\n李雷,man\nZoë 🎉,woman\n"
    names = ("Zoë 🎉/my photo.jpg", "Zoë 🎈/1.jpg", "tab\there/1.jpg", "李雷/1.jpg")
    write(tmp_path, {"subjects.csv": table} | {f"set/{name}": DOT for name in names})
    given = settings(subjects=str(tmp_path / "subjects.csv"))
    photos = {p.name: p for p in list_photos(str(tmp_path / "set"), given).photos}
    ids = {name: photo.subject for name, photo in photos.items()}
    assert ids["tab\there/1.jpg"] == "tab-here" and ids["Zoë 🎉/my photo.jpg"].startswith("zoe-")
    assert len(set(ids.values())) == 4 and all(re.fullmatch("[a-z0-9_-]+", i) for i in ids.values())
    assert photos["李雷/1.jpg"].facts.subject_class == "man"
    assert photos["Zoë 🎉/my photo.jpg"].facts.subject_class == "woman"


@pytest.mark.skipif(os.geteuid() == 0, reason="everything can be read by the superuser")
def test_a_folder_without_permission_is_listed(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.jpg": DOT, "b/1.jpg": DOT})
    (tmp_path / "b").chmod(0)
    try:
        listing = list_photos(str(tmp_path), settings())
    finally:
        (tmp_path / "b").chmod(0o755)
    assert [p.subject for p in listing.photos] == ["a"]
    assert listing.left_out == [("b", "the folder cannot be read (Permission denied)")]


def test_a_folder_that_leads_nowhere_is_listed(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.jpg": DOT})
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "a" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    listing = list_photos(str(tmp_path), settings())
    assert [p.name for p in listing.photos] == ["a/1.jpg", "a/gone.jpg"]
    with pytest.raises(LikenessError, match="it cannot be read"):
        listing.photos[1].image.read()


def test_links_that_lead_back_are_read_once(tmp_path: Path) -> None:
    write(tmp_path, {"set/a/1.jpg": DOT, "set/b/1.jpg": DOT, "elsewhere/1.jpg": DOT})
    for name in ("set/a/self", "set/a/again", "set/b/self"):
        (tmp_path / name).symlink_to(".")
        (tmp_path / f"{name} up").symlink_to("..")
    (tmp_path / "set" / "a link to b").symlink_to("b")
    (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere")
    listing = list_photos(str(tmp_path / "set"), settings())
    assert [p.name for p in listing.photos] == ["a/1.jpg", "b/1.jpg", "c/1.jpg"]
    assert len(listing.left_out) == 7
    assert {reason for _, reason in listing.left_out} == {"a link to a folder that is read already"}


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.jpg": DOT})
    for name in ("a/1.txt", "a/2.jpg"):
        os.mkfifo(tmp_path / name)
    listing = list_photos(str(tmp_path), settings())
    assert [(name, "is a pipe" in reason) for name, reason in listing.left_out] == [("a/1.txt", True)]
    with pytest.raises(LikenessError, match="is a pipe"):
        listing.photos[1].image.read()
    for name in ("metadata.csv", "x.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(LikenessError, match="is a pipe"):
            list_photos(str(tmp_path), settings())


def test_names_that_are_no_text_are_written_as_numbers(tmp_path: Path) -> None:
    write(tmp_path, {os.fsdecode(name): DOT for name in (b"\xff/\xfe.jpg", b"\xfe/1.jpg")})
    photos = list_photos(str(tmp_path), settings()).photos
    assert [p.name for p in photos] == [r"\udcfe/1.jpg", r"\udcff/\udcfe.jpg"]
    assert len({p.subject for p in photos}) == 2
    assert all(p.image.stamp.encode() and p.image.read() == DOT for p in photos)


def test_a_dataset_of_the_hub_that_is_in_the_local_cache_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    write(
        tmp_path / "datasets--somebody--photos",
        {
            "refs/main": commit,
            f"snapshots/{commit}/metadata.csv": "file_name,subject\n1.jpg,ann\n",
            f"snapshots/{commit}/1.jpg": DOT,
        },
    )
    listing = list_photos("somebody/photos", settings())
    assert [(p.name, p.subject) for p in listing.photos] == [("1.jpg", "ann")]

"""Which file of a folder answers which request, and what is refused: nothing is generated or judged."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from leaderboard.images.folder import Matched, open_folder
from leaderboard.images.requests_file import write_requests
from leaderboard.images.taking import ImagesEntry
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.image_files import read_provenance, write_image
from tests.leaderboard.test_protocol import make_protocol

PROTOCOL = make_protocol()
IDS = [request.id for request in PROTOCOL.requests]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image of another size for every request."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for i, name in enumerate(IDS):
        Image.new("RGB", (96, 80), (i, 2 * i, 3 * i)).save(folder / f"{name}.png")
    return folder


def match(folder: Path, allow_missing: float = 0.0, protocol: Protocol = PROTOCOL) -> Matched:
    return open_folder("theirs", folder).match(protocol, allow_missing)


def entry(folder: Path, allow_missing: float = 0.0, protocol: Protocol = PROTOCOL) -> Entry:
    one = ImagesEntry(open_folder("theirs", folder), "method", allow_missing)
    return one.entry(protocol, Results(folder.parent / "results"))


def test_files_are_matched_by_their_names_whatever_their_format(folder: Path) -> None:
    first, second, *_ = IDS
    (folder / f"{first}.png").unlink()
    (folder / f"{second}.png").unlink()
    Image.new("RGB", (64, 64)).save(folder / f"{first}.JPG", "JPEG")
    Image.new("RGBA", (64, 64)).save(folder / f"{second}.webp")
    (folder / "notes.txt").write_text("by hand")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "grid").mkdir()
    found = match(folder)
    assert list(found.files) == IDS and not found.missing
    assert found.files[first].suffix == ".JPG" and found.superfluous == ("notes.txt",)
    facts = entry(folder).images
    assert facts is not None and (facts.resized, facts.jpeg, facts.superfluous) == (len(IDS) - 2, 1, 1)
    notes = list(facts.notes("theirs", len(IDS), 64))
    assert len(notes) == 3 and any("1 images of theirs are JPEG" in note for note in notes)


def test_a_map_gives_requests_to_foreign_names(folder: Path) -> None:
    (folder / "deep").mkdir()
    rows = ["file,request"]
    for i, name in enumerate(IDS):
        (folder / f"{name}.png").rename(folder / "deep" / f"ComfyUI {i}, final.png")
        rows.append(f'"deep/ComfyUI {i}, final.png",{name}')
    (folder / "map.csv").write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8")
    assert list(match(folder).files) == IDS


def test_missing_and_superfluous_files_are_counted_and_named(folder: Path) -> None:
    for name in IDS[:2]:
        (folder / f"{name}.png").unlink()
    (folder / "s9.beach.00.png").write_bytes(b"")
    (folder / "a\nb.txt").write_bytes(b"")
    words = (
        rf"theirs lacks 2 of 8 images \({IDS[0]}, {IDS[1]}\) and holds 2 other files "
        r"\('a\\nb\.txt', s9\.beach\.00\.png\): add them"
    )
    with pytest.raises(LikenessError, match=words) as error:
        match(folder)
    assert "--allow_missing" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(LikenessError, match="lacks 2 of 8"):
        match(folder, allow_missing=0.2)
    assert match(folder, allow_missing=0.25).missing == tuple(IDS[:2])


def test_the_weights_are_the_bytes_of_the_images_and_nothing_else(folder: Path) -> None:
    before = entry(folder)
    (folder / "notes.txt").write_text("one more")
    assert entry(folder).weights == before.weights and len(before.weights) == 64
    (folder / f"{IDS[0]}.png").write_bytes((folder / f"{IDS[1]}.png").read_bytes())
    assert entry(folder).weights != before.weights


def test_entry_json_gives_cost_and_provenance(folder: Path) -> None:
    about = {"method": "InstantID", "licence": "non-commercial", "settings": {"scale": 0.8}, "protocol": PROTOCOL.hash}
    about |= {"seconds_per_image": 1.5, "enrol_seconds": 0, "trainable_parameters": None}
    (folder / "entry.json").write_text(json.dumps(about))
    assert entry(folder).manifest == about


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"second_per_image": 1}', "nobody reads the key 'second_per_image': did you mean seconds_per_image?"),
        ('{"xyz": 1}', "nobody reads the key 'xyz': there are protocol, method"),
        ('{"seconds_per_image": "fast"}', "seconds_per_image is 'fast', it must be a number"),
        ('{"enrol_seconds": NaN}', "is damaged"),
        ('{"method": 1}', "method is 1, it must be a text"),
        ('{"settings": []}', r"settings is \[\], it must be an object"),
        ("[]", "holds no object"),
        ("{", "is damaged"),
        ('{"protocol": "0123"}', f"answer protocol 0123 by their entry.json, this one is {PROTOCOL.hash}"),
    ],
)
def test_a_wrong_entry_json_is_one_line(folder: Path, text: str, words: str) -> None:
    (folder / "entry.json").write_text(text)
    with pytest.raises(LikenessError, match=words) as error:
        entry(folder)
    assert "entry.json" in str(error.value) and "\n" not in str(error.value)


def test_two_files_for_one_request_are_refused(folder: Path) -> None:
    Image.new("RGB", (64, 64)).save(folder / f"{IDS[3]}.jpg")
    with pytest.raises(LikenessError, match=rf"answer request {IDS[3]}: {IDS[3]}\.jpg and {IDS[3]}\.png: remove one"):
        match(folder)
    (folder / "own.png").write_bytes((folder / f"{IDS[3]}.jpg").read_bytes())
    (folder / f"{IDS[3]}.jpg").unlink()
    (folder / "map.csv").write_text(f"file,request\nown.png,{IDS[3]}\n")
    with pytest.raises(LikenessError, match=rf"own\.png and {IDS[3]}\.png"):
        match(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,request\n../other/a.png,{0}\n", r"line 2: '\.\./other/a\.png' must name a file in or below"),
        ("file,request\n/etc/hostname,{0}\n", "line 2: '/etc/hostname' must name a file"),
        ("file,request\na\\b.png,{0}\n", r"must name a file in or below"),
        ("file,request\na.png,s9.beach.00\n", r"line 2: the protocol has no request 's9\.beach\.00'"),
        ("file,request\na.png,{0}\nb.png,{0}\n", "line 3: request {0} has a file already, in line 2"),
        ("file,request\na.png\n", "line 2: it must hold a file and a request"),
        ("file,request\na.png,{0},more\n", "line 2: it must hold a file and a request"),
        ("name,id\na.png,{0}\n", "must begin with the line file,request"),
        ("", "must begin with the line file,request"),
        ('file,request\n"a.png,{0}\n', "is no CSV in UTF-8"),
    ],
)
def test_a_wrong_map_is_one_line(folder: Path, text: str, words: str) -> None:
    (folder / "map.csv").write_text(text.format(IDS[0]))
    with pytest.raises(LikenessError, match=words.format(IDS[0])) as error:
        match(folder)
    assert "map.csv" in str(error.value) and "\n" not in str(error.value)


def test_links_are_not_followed_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    (folder / f"{IDS[0]}.png").rename(secret)
    (folder / f"{IDS[0]}.png").symlink_to(secret)
    with pytest.raises(LikenessError, match=r"leads out of .*theirs, which is not followed: copy the file"):
        open_folder("theirs", folder)
    (folder / f"{IDS[0]}.png").unlink()
    (folder / "out").symlink_to(tmp_path)
    (folder / "map.csv").write_text(f"file,request\nout/secret.png,{IDS[0]}\n")
    with pytest.raises(LikenessError, match="leads out of"):
        open_folder("theirs", folder)
    (folder / "map.csv").unlink()
    (folder / f"{IDS[0]}.png").symlink_to(f"{IDS[1]}.png")
    assert list(match(folder).files) == IDS, "a link inside is a file like others"


def test_images_of_another_protocol_are_refused(folder: Path, tmp_path: Path) -> None:
    other = make_protocol(subjects={"s8": "person", "s9": "person"})
    with pytest.raises(LikenessError, match=r"none of the 8 files in .* such as s8\.beach\.00\.png"):
        match(folder, 1.0, other)
    write_requests(folder, PROTOCOL)
    assert list(match(folder).files) == IDS
    with pytest.raises(LikenessError, match=r"requests\.jsonl does not list the requests of protocol"):
        match(folder, protocol=make_protocol(seed=1))
    (folder / "requests.jsonl").unlink()
    write_image(folder / f"{IDS[0]}.png", np.zeros((64, 64, 3), np.uint8), {"protocol": "abc"})
    with pytest.raises(LikenessError, match=f"was generated under protocol abc, not {PROTOCOL.hash}") as error:
        entry(folder)
    assert "\n" not in str(error.value)
    (folder / "entry.json").write_text(json.dumps({"protocol": PROTOCOL.hash}))
    assert entry(folder).images is not None, "the user says that they answer the same requests"


def test_what_an_image_says_of_itself_in_brackets_without_end_is_nothing(folder: Path) -> None:
    said = PngInfo()
    said.add_itxt("Likeness", "[" * 100_000)
    Image.new("RGB", (64, 64)).save(folder / f"{IDS[0]}.png", pnginfo=said)
    assert read_provenance(folder / f"{IDS[0]}.png") == {}
    assert entry(folder).images is not None


def test_what_is_no_image_is_named(folder: Path) -> None:
    (folder / f"{IDS[0]}.png").unlink()
    (folder / f"{IDS[0]}.jpg").write_text("no image")
    (folder / f"{IDS[1]}.png").write_bytes(b"")
    with pytest.raises(
        LikenessError, match=rf"2 files in .*\({IDS[0]}\.jpg, {IDS[1]}\.png\): .*is no readable"
    ) as error:
        entry(folder)
    assert "\n" not in str(error.value)


def test_a_folder_without_images_says_where_some_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"holds no images .* there are some in its folder theirs"):
        open_folder("up", tmp_path)
    with pytest.raises(LikenessError, match="nowhere cannot be read: No such file"):
        open_folder("nowhere", tmp_path / "nowhere")
    with pytest.raises(LikenessError, match="cannot be read: Not a directory"):
        open_folder("file", folder / f"{IDS[0]}.png")

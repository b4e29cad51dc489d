"""Directions from a labelled set: the command on a world of the smallest size."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.face_crops import aligned, portrait_of
from datamodules.index import load_photos, read_photos
from datamodules.sources import find_shards
from networks.wplus import load_wplus, wplus_fingerprint
from networks.wplus_directions import read_directions
from pocket.tiny.world import TinyWorld
from tools.find_directions import __main__ as directions
from tools.find_directions.__main__ import main, parse_rows, read_labels
from tools.find_directions.rows import DrawnAttributes, told


@pytest.fixture
def labelled(tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CSV with the yaw of every training photo, and whether it looks up."""
    monkeypatch.setattr(directions, "cache_folder", lambda: tiny_world.cache)
    photos = load_photos(find_shards(str(tiny_world.dataset)), tiny_world.cache)
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sha256", "yaw", "up"])
        writer.writerows([p.sha256, p.pose[0], int(p.pose[1] > 0)] for p in photos if p.split == "train")
    return path


def command(world: TinyWorld, labels: Path, output: Path, *more: str) -> int:
    given = ["--labels", labels, "--source", world.dataset, "--wplus", world.wplus, "--output", output]
    return main([*map(str, given), *more])


def test_the_command_writes_directions_of_the_encoder(
    tiny_world: TinyWorld, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "directions.safetensors"
    assert command(tiny_world, labelled, output, "--rows", "up=8:10") == 0
    found = read_directions(output, wplus_fingerprint(str(tiny_world.wplus)), 10, 8)
    assert set(found) == {"yaw", "up"} and found["up"].rows == (8, 10)
    assert all(direction.vector.any() for direction in found.values())
    printed = capsys.readouterr().out
    assert "yaw" in printed and "8:10" in printed and str(output) in printed


def test_codes_are_those_of_the_aligned_faces(tiny_world: TinyWorld) -> None:
    photos = [p for p in load_photos(find_shards(str(tiny_world.dataset)), tiny_world.cache) if p.split == "train"][:3]
    codes = directions.wplus_codes(photos, str(tiny_world.wplus), tiny_world.cache)
    encoder = load_wplus(str(tiny_world.wplus))
    for photo, code in zip(photos, codes, strict=True):
        picture = next(iter(read_photos([photo])))
        crop = aligned(portrait_of(picture), 64, None, background=False)
        torch.testing.assert_close(code, encoder.encode(crop[None])[0], rtol=1e-4, atol=1e-4)


class Redundant:
    """A pair whose encoder writes an attribute into every row, and whose generator makes it from the middle ones."""

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes[:, 4:8].mean(dim=(1, 2))

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures[:, None, None].expand(-1, 10, 6)


def test_the_rows_that_an_attribute_is_generated_from_are_found() -> None:
    label = np.random.default_rng(0).normal(size=(200, 1))
    codes = Redundant().encode(torch.from_numpy(label[:, 0])).float()
    pair = DrawnAttributes(Redundant(), codes, label)  # type: ignore[arg-type]
    vector = torch.full((10, 6), float(label.std(ddof=1)))
    direction, drawn, whole = pair.choose(0, "x", vector)
    assert direction.rows == (4, 8) and direction.vector.shape == (4, 6)
    assert drawn == pytest.approx(whole) and whole == pytest.approx(1.0, abs=0.3)
    direction, drawn, _ = pair.choose(0, "x", vector, rows=(0, 3))
    assert direction.rows == (0, 3) and drawn == pytest.approx(0.0, abs=1e-6)
    direction, drawn, whole = pair.choose(0, "x", -vector)
    assert direction.rows == (0, 10) and drawn == whole < 0, "nothing gained is a share of nothing"


def test_what_codes_tell_of_labels() -> None:
    draws, accidents = np.random.default_rng(0), []
    codes, label = torch.from_numpy(draws.normal(size=(200, 10, 6))).float(), draws.normal(size=200)
    codes[:, 5] += 3 * torch.from_numpy(label)[:, None]
    assert told(codes, label, [str(i % 20) for i in range(200)]) > 0.9
    for _ in range(20):
        codes, label = torch.from_numpy(draws.normal(size=(40, 10, 3))).float(), draws.normal(size=40)
        accidents.append(told(codes, label, [str(i % 8) for i in range(40)]))
    assert np.median(accidents) < 0


def test_a_direction_of_noise_comes_with_a_note(
    tiny_world: TinyWorld, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, draws = labelled.read_text().splitlines(), np.random.default_rng(0)
    noisy = [lines[0] + ",noise", *(f"{line},{draws.normal()}" for line in lines[1:])]
    labelled.write_text("\n".join(noisy) + "\n")
    assert command(tiny_world, labelled, tmp_path / "out.safetensors") == 0
    assert "note: the codes do not tell noise (R^2 of 0 or less)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have a column sha256"),
        ("sha256\nabc\n", "must have a column sha256"),
        ("yaw\n1\n", "must have a column sha256"),
        ("sha256,yaw\nabc,left\n", "line 2: yaw is 'left'"),
        ("sha256,yaw\nabc,1\ndef\n", "line 3: yaw is None"),
        ("sha256,yaw\nabc,nan\n", "line 2: yaw is 'nan'"),
        ("sha256,yaw,mix\nabc,1,1\n", "the column 'mix' is no name for a direction"),
        ("sha256,yaw,\nabc,1,1\n", "the column '' is no name for a direction (it is empty)"),
        ("sha256,a=b\nabc,1\n", "the column 'a=b' is no name"),
        ('sha256,"a,b"\nabc,1\n', "the column 'a,b' is no name"),
        ("sha256,yaw \nabc,1\n", "the column 'yaw ' is no name"),
        ("sha256,yaw,yaw\nabc,1,2\n", "has the column 'yaw' twice"),
        ("sha256,sha256,yaw\nabc,abc,2\n", "has the column 'sha256' twice"),
    ],
)
def test_labels_that_are_none_are_one_line(
    tiny_world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    assert command(tiny_world, path, tmp_path / "out.safetensors") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --labels: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_an_output_that_cannot_be_written_is_found_before_any_work(
    tiny_world: TinyWorld,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("photos were read or encoded first")

    monkeypatch.setattr(directions, "load_photos", work)
    monkeypatch.setattr(directions, "find_directions", work)
    for output in (tmp_path, labelled / "directions.safetensors"):
        assert command(tiny_world, labelled, output) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: directions '{output}' could not be written") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--rows", "yaw=4"], "give NAME=FIRST:LAST"),
        (["--rows", "hair=4:8"], "with a NAME among yaw, up"),
        (["--rows", "yaw=8:12"], "rows 8:12, the codes have 10 rows"),
        (["--limit", "0"], "--limit is 0"),
        (["--limit", "2"], "4 subjects are needed"),
        (["--labels", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--wplus", "nowhere"], "no folder or checkpoint at 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line(
    tiny_world: TinyWorld,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    assert command(tiny_world, labelled, tmp_path / "out.safetensors", *more) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and words in error, error


def test_an_attribute_that_nobody_has_is_named(
    tiny_world: TinyWorld, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = labelled.read_text().splitlines()
    labelled.write_text("\n".join([lines[0] + ",hat", *(line + ",0" for line in lines[1:])]) + "\n")
    assert command(tiny_world, labelled, tmp_path / "out.safetensors") == 2
    assert "hat has one value only" in capsys.readouterr().err


def test_reading_keeps_order(labelled: Path) -> None:
    hashes, names, labels = read_labels(labelled)
    assert names == ["yaw", "up"] and labels.shape == (len(hashes), 2)
    assert parse_rows(["up=0:4"], names) == {"up": (0, 4)}

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from contracts.errors import LikenessError
from networks.wplus_directions import (
    FORMAT,
    LIMIT,
    RESERVED,
    Direction,
    check_name,
    check_writable,
    fit_directions,
    read_directions,
    write_directions,
)
from tools.edit_faces.edits import MIX, parse_series

ROWS = 10
WIDTH = 8


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direction(rows: tuple[int, int] = (4, 8), height: int = 4) -> Direction:
    return Direction("smiling", rows, normal(height, WIDTH, seed=1))


def test_an_edit_moves_its_rows_and_no_other() -> None:
    codes = normal(2, ROWS, WIDTH)
    edited = direction().apply(codes, -1.5)
    assert torch.equal(edited[:, :4], codes[:, :4]) and torch.equal(edited[:, 8:], codes[:, 8:])
    torch.testing.assert_close(edited[:, 4:8], codes[:, 4:8] - 1.5 * direction().vector)
    assert torch.equal(direction().apply(codes, 0.0), codes)


def test_one_row_moves_all_rows_of_the_range() -> None:
    edited = direction(height=1).apply(torch.zeros(1, ROWS, WIDTH), 1.0)
    assert torch.equal(edited[0, 4:8], direction(height=1).vector.expand(4, -1))


@pytest.mark.parametrize(
    ("bad", "strength", "words"),
    [
        (direction(), LIMIT + 0.1, r"strength 6\.1 of direction 'smiling' is not within -6\.\.6"),
        (direction(), float("nan"), "strength nan"),
        (direction((8, 12)), 1.0, "rows 8:12, the codes have 10 rows"),
        (direction(height=3), 1.0, "must have 4 rows, or one for all"),
        (Direction("smiling", (4, 8), torch.zeros(4, 7)), 1.0, "7 wide, the codes are 8 wide"),
        (Direction("smiling", (4, 4), torch.zeros(1, 8)), 1.0, "rows 4:4"),
    ],
)
def test_what_does_not_fit_is_one_line(bad: Direction, strength: float, words: str) -> None:
    with pytest.raises(LikenessError, match=words) as raised:
        bad.apply(torch.zeros(1, ROWS, WIDTH), strength)
    assert "\n" not in str(raised.value)


def test_a_file_gives_the_directions_back(tmp_path: Path) -> None:
    path = tmp_path / "directions.safetensors"
    write_directions(path, [direction(), Direction("light", (8, 10), normal(1, WIDTH))], "abc")
    found = read_directions(path, "abc", ROWS, WIDTH)
    assert list(found) == ["smiling", "light"] and found["smiling"].rows == (4, 8)
    assert torch.equal(found["smiling"].vector, direction().vector)


def test_a_file_that_is_none_or_of_another_encoder_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "directions.safetensors"
    with pytest.raises(LikenessError, match=r"no directions at .*tools\.find_directions"):
        read_directions(path, "abc", ROWS, WIDTH)
    path.write_bytes(b"not safetensors")
    with pytest.raises(LikenessError, match="is no file of directions"):
        read_directions(path, "abc", ROWS, WIDTH)
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(LikenessError, match="is no file of directions"):
        read_directions(path, "abc", ROWS, WIDTH)
    write_directions(path, [direction()], "a" * 64)
    with pytest.raises(LikenessError, match="find the directions again"):
        read_directions(path, "b" * 64, ROWS, WIDTH)
    write_directions(path, [direction(height=2)], "abc")
    with pytest.raises(LikenessError, match="must have 4 rows"):
        read_directions(path, "abc", ROWS, WIDTH)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_is_refused(tmp_path: Path, number: float) -> None:
    bad = direction()
    bad.vector[2, 3] = number
    write_directions(tmp_path / "d.safetensors", [Direction("light", (8, 10), normal(1, WIDTH)), bad], "abc")
    with pytest.raises(
        LikenessError, match=r"d\.safetensors': the vector of direction 'smiling' holds NaN or infinity"
    ):
        read_directions(tmp_path / "d.safetensors", "abc", ROWS, WIDTH)


@pytest.mark.parametrize("rows", [[0.5, 4.9], [0, 4, 9], [0], ["0", "4"], [False, True], "04", None])
def test_rows_that_are_no_two_whole_numbers_are_refused_and_not_cut(tmp_path: Path, rows: object) -> None:
    metadata = {"format": FORMAT, "rows": json.dumps({"smiling": rows}), "encoder": "abc"}
    save_file({"smiling": torch.zeros(1, WIDTH)}, tmp_path / "d.safetensors", metadata=metadata)
    with pytest.raises(LikenessError, match=r"direction 'smiling' has rows .*, expected two whole numbers") as raised:
        read_directions(tmp_path / "d.safetensors", "abc", ROWS, WIDTH)
    assert repr(rows) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("place", ["folder", "file/directions.safetensors"])
def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(LikenessError, match=r"directions '.*' could not be written") as raised:
        write_directions(tmp_path / place, [direction()], "abc")
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("name", ["smiling", "head turn", "blond+hair", "Ärger", "mixed"])
def test_a_name_that_edits_can_ask_for_is_taken(name: str) -> None:
    check_name(name)
    series = parse_series(f"{name}=-1,2")
    assert series.name == name and series.strengths == (-1.0, 2.0)


@pytest.mark.parametrize(
    "name", ["", "mix", "__metadata__", "a=b", "a,b", " smiling", "smiling ", "\tsmiling", "a\nb", "-smiling"]
)
def test_a_name_that_edits_cannot_ask_for_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(LikenessError, match="is no name for a direction") as raised:
        check_name(name)
    assert str(raised.value).startswith(repr(name)) and "\n" not in str(raised.value)


def test_what_edits_call_mixing_is_reserved() -> None:
    assert MIX in RESERVED


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/", "it is a folder"),
        ("folder", "it is a folder"),
        ("file/d.safetensors", "is no folder"),
        ("file/new/d.safetensors", "is no folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_known_before(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(LikenessError, match=rf"directions '.*' could not be written: .*{words}"):
        check_writable(tmp_path / place)


def test_a_place_that_can_be_written_is_not_touched(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder" / "d.safetensors")
    assert not list(tmp_path.iterdir())


def test_planted_directions_are_found_and_kept_apart() -> None:
    """Two correlated attributes: each direction is what its own attribute adds."""
    n = 400
    truth = normal(2, ROWS, WIDTH, seed=3)
    smiling = (normal(n, seed=4) > 0).double()
    yaw = 20 * normal(n, seed=5).double() + 10 * smiling
    labels = torch.stack([smiling, yaw], dim=1)
    codes = 5 + torch.einsum("na,arw->nrw", labels.float(), truth) + 0.01 * normal(n, ROWS, WIDTH, seed=6)
    found = fit_directions(codes, labels)
    torch.testing.assert_close(found[0], truth[0], rtol=0, atol=0.01)
    torch.testing.assert_close(found[1], truth[1] * float(yaw.std()), rtol=0, atol=0.01)

import pickle
from pathlib import Path

import pytest
import torch

from callbacks.checkpoint_io import DurableCheckpointIO
from contracts.errors import LikenessError
from tests.helpers.faults import file_size_limit

OLD = {"state_dict": {"weight": torch.arange(4.0)}, "global_step": 3}
NEW = {"state_dict": {"weight": torch.randn(50_000)}, "global_step": 4}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    DurableCheckpointIO().save_checkpoint(OLD, path)
    return path


def holds_old(path: Path) -> bool:
    found = DurableCheckpointIO().load_checkpoint(path)
    return found["global_step"] == 3 and torch.equal(found["state_dict"]["weight"], OLD["state_dict"]["weight"])


def test_what_was_saved_comes_back(saved: Path) -> None:
    assert holds_old(saved)
    assert [file.name for file in saved.parent.iterdir()] == ["last.ckpt"]
    DurableCheckpointIO().save_checkpoint(NEW, saved)
    assert DurableCheckpointIO().load_checkpoint(saved)["global_step"] == 4


def test_the_old_checkpoint_is_replaced_and_never_written_over(saved: Path) -> None:
    before = saved.read_bytes()
    with saved.open("rb") as reader:
        DurableCheckpointIO().save_checkpoint(NEW, saved)
        assert reader.read() == before, "who reads the old one reads the whole of it"
    assert saved.read_bytes() != before


@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_a_full_disk_leaves_the_old_checkpoint(saved: Path, size: int) -> None:
    with file_size_limit(size), pytest.raises(LikenessError, match=r"last.ckpt' could not be written") as raised:
        DurableCheckpointIO().save_checkpoint(NEW, saved)
    assert "\n" not in str(raised.value)
    assert holds_old(saved)
    assert [file.name for file in saved.parent.iterdir()] == ["last.ckpt"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    path = tmp_path / "taken" / "last.ckpt"
    with pytest.raises(LikenessError, match=r"taken/last.ckpt' could not be written"):
        DurableCheckpointIO().save_checkpoint(NEW, path)
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_folder_in_the_place_of_the_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(LikenessError, match=r"last.ckpt' could not be written"):
        DurableCheckpointIO().save_checkpoint(NEW, tmp_path / "last.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_a_killed_process_left_is_reaped(saved: Path) -> None:
    left_over = saved.with_name(".last.ckpt.999999")
    other = saved.with_name(".interrupted.ckpt.999999")
    for file in (left_over, other):
        file.write_bytes(b"half")
    DurableCheckpointIO().save_checkpoint(NEW, saved)
    assert sorted(file.name for file in saved.parent.iterdir()) == [".interrupted.ckpt.999999", "last.ckpt"]


class Payload:
    """Runs code when it is unpickled, as an attacker's object would."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a checkpoint ran code",)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "last.ckpt"
    if writer == "torch":
        torch.save({"state_dict": Payload()}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Payload()}, protocol=2))
    with pytest.raises(LikenessError, match=r"last.ckpt' is not a readable checkpoint") as raised:
        DurableCheckpointIO().load_checkpoint(path, weights_only=False)
    assert "\n" not in str(raised.value)


def test_an_object_that_could_not_be_read_back_is_not_saved(saved: Path) -> None:
    with pytest.raises(LikenessError, match=r"last.ckpt' could not be written"):
        DurableCheckpointIO().save_checkpoint({"state_dict": Payload()}, saved)
    assert holds_old(saved)


@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_checkpoint_that_was_cut_short_is_one_line(saved: Path, keep: int) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[:keep] if keep >= 0 else data[: len(data) // 2])
    with pytest.raises(LikenessError, match=r"ckpt_path: .*last.ckpt' is not a readable checkpoint") as raised:
        DurableCheckpointIO().load_checkpoint(saved)
    assert "\n" not in str(raised.value)


def test_a_missing_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="ckpt_path: no checkpoint at"):
        DurableCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")

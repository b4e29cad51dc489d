import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from callbacks.checkpoint_io import DurableCheckpointIO, latest_checkpoint
from contracts.errors import LikenessError
from contracts.files import reap
from performance.faults.inject import file_size_limit

PARTS = {
    "optimizer_states": [{"state": {}}],
    "lr_schedulers": [{"last_epoch": 3}],
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": 3}}},
    "callbacks": {"RunFolder": {"seconds": 1.0}},
    "SpotDiff10kDataModule": {"seed": 0},
}
OLD = {**PARTS, "state_dict": {"weight": torch.arange(4.0)}, "global_step": 3}
NEW = {**PARTS, "state_dict": {"weight": torch.randn(50_000)}, "global_step": 4}


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


DAMAGE = {
    "a bit is flipped": lambda data, at: data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :],
    "512 bytes are zero": lambda data, at: data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :],
    "4096 bytes are others": lambda data, at: data[:at] + data[: min(4096, len(data) - at)] + data[at + 4096 :],
    "the end is cut off": lambda data, at: data[:at],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_never_gone_on_with(saved: Path, damage: str) -> None:
    DurableCheckpointIO().save_checkpoint(NEW, saved)
    whole, refused = saved.read_bytes(), 0
    for at in range(0, len(whole), len(whole) // 60):
        saved.write_bytes(DAMAGE[damage](whole, at))
        try:
            found = DurableCheckpointIO().load_checkpoint(saved)
        except LikenessError as error:
            assert "\n" not in str(error) and "last.ckpt" in str(error)
            refused += 1
        else:  # a byte between the parts, which says nothing
            assert torch.equal(found["state_dict"].pop("weight"), NEW["state_dict"]["weight"])
            assert found == {**NEW, "state_dict": {}}
    assert refused > 55


@pytest.mark.parametrize("lost", [*PARTS, "state_dict", "loops.fit_loop", "callbacks.RunFolder"])
@pytest.mark.parametrize("how", ["missing", "empty", "of another kind"])
def test_a_checkpoint_without_a_part_is_refused(saved: Path, lost: str, how: str) -> None:
    name, _, inside = lost.partition(".")
    instead = {"missing": None, "empty": {}, "of another kind": 7}[how]
    part = {**OLD[name], inside: instead} if inside and how != "of another kind" else instead
    state = {**OLD, name: part}
    torch.save({key: value for key, value in state.items() if value is not None}, saved)
    with pytest.raises(LikenessError, match=rf"last.ckpt' lacks {name}.*so the run cannot go on") as raised:
        DurableCheckpointIO().load_checkpoint(saved)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("newest", ["last.ckpt", "interrupted.ckpt"])
def test_the_latest_checkpoint_is_that_of_most_steps_whatever_the_clock_says(saved: Path, newest: str) -> None:
    folder, other = saved.parent, ({"last.ckpt", "interrupted.ckpt"} - {newest}).pop()
    DurableCheckpointIO().save_checkpoint(NEW, folder / newest)
    DurableCheckpointIO().save_checkpoint(OLD, folder / other)
    for times in ((1, 1), (2, 1), (1, 2)):
        for name, seconds in zip((newest, other), times, strict=True):
            os.utime(folder / name, (seconds, seconds))
        assert latest_checkpoint(folder) == str(folder / newest)
    (folder / other).unlink()
    assert latest_checkpoint(folder) == str(folder / newest)
    (folder / newest).unlink()
    assert latest_checkpoint(folder) is None


@pytest.mark.parametrize("kind", ["cut", "no steps", "fifo", "folder"])
def test_the_latest_of_two_is_not_guessed_when_one_is_damaged(saved: Path, kind: str) -> None:
    other = saved.with_name("interrupted.ckpt")
    if kind == "cut":
        other.write_bytes(saved.read_bytes()[:-100])
    elif kind == "no steps":
        torch.save({**OLD, "global_step": "3"}, other)
    elif kind == "fifo":
        os.mkfifo(other)
    else:
        other.mkdir()
    with pytest.raises(LikenessError, match=r"interrupted.ckpt' (is not a readable|does not say its step).*delete"):
        latest_checkpoint(saved.parent)


def test_what_a_killed_process_left_is_reaped(saved: Path) -> None:
    writes = "; ".join(
        [
            "import sys, time; from pathlib import Path; from contracts.files import atomic_path",
            "block = atomic_path(Path(sys.argv[1]))",
            "block.__enter__().write_text('half'); print(1, flush=True); time.sleep(60)",
        ]
    )
    dead, alive = (
        subprocess.Popen([sys.executable, "-c", writes, str(saved)], stdout=subprocess.PIPE) for _ in range(2)
    )
    try:
        assert all(process.stdout is not None and process.stdout.readline() for process in (dead, alive))
        dead.kill()
        dead.communicate()
        assert len(list(saved.parent.iterdir())) == 3
        reap(saved.parent)
        assert len(list(saved.parent.iterdir())) == 2, "the other one still writes"
        DurableCheckpointIO().save_checkpoint(NEW, saved)
    finally:
        alive.kill()
        alive.communicate()
    reap(saved.parent)
    assert [file.name for file in saved.parent.iterdir()] == ["last.ckpt"]


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

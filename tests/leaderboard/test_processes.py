"""Processes that are killed leave nothing behind that others wait for."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing import Event, get_context
from multiprocessing import RLock as ProcessLock
from pathlib import Path
from threading import RLock, Timer

import pytest
import torch
from lightning.fabric import Fabric
from tqdm import tqdm
from tqdm.std import TqdmDefaultWriteLock

from contracts import roll_call
from contracts.errors import LikenessError
from contracts.settings import ProcessSettings
from leaderboard.processes import launch, together


@pytest.fixture
def shared_lock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A lock like tqdm's own, which forked processes share, for this test alone: it will stay taken."""
    monkeypatch.setattr(TqdmDefaultWriteLock, "mp_lock", ProcessLock(), raising=False)
    tqdm.set_lock(TqdmDefaultWriteLock())
    yield
    tqdm.set_lock(RLock())


def test_a_process_killed_while_it_writes_its_bar_holds_up_nobody(shared_lock: None) -> None:
    held = Event()

    def die_writing() -> None:
        tqdm.get_lock().acquire()
        held.set()
        time.sleep(60)

    process = get_context("fork").Process(target=die_writing)
    process.start()
    assert held.wait(30) and process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    def work(fabric: Fabric) -> bool:
        free = tqdm.get_lock().acquire(timeout=5) is True
        fabric.barrier()  # the first process must not end before the other one has found it
        return free

    assert launch(ProcessSettings(devices=1, accelerator="cpu"), work)
    assert launch(ProcessSettings(devices=2, accelerator="cpu"), work)


@pytest.mark.parametrize(("rank", "stopped"), [(0, False), (2, False), (0, True), (1, True)])
def test_a_rank_that_does_not_answer_is_named_and_ends_the_others(
    rank: int, stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_call, "PATIENCE", 1.0)

    def work(fabric: Fabric) -> None:
        together(fabric, lambda: None)
        if fabric.global_rank == rank:
            (tmp_path / "pid").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP if stopped else 0)
            time.sleep(100)
        together(fabric, lambda: None)

    # A stopped process takes no notice of being told to end, and is killed after half a minute; here it is sooner.
    killer = Timer(9, lambda: os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL))
    if stopped:
        killer.start()
    line = rf"^rank {rank} \(process \d+ on {socket.gethostname()}\) did not answer for 3 s, so the others end: look"
    with pytest.raises(LikenessError, match=line) as error:
        launch(ProcessSettings(devices=3, accelerator="cpu", timeout=3), work)
    killer.cancel()
    assert "\n" not in str(error.value)


NOT_HERE = "mps" if torch.cuda.is_available() else "cuda"


@pytest.mark.parametrize("wrong", [{"precision": "fp61"}, {"devices": 0}, {"accelerator": NOT_HERE}], ids=str)
def test_settings_that_cannot_be_had_are_one_line(wrong: dict) -> None:
    with pytest.raises(LikenessError, match=r"^--trainer: ") as error:
        launch(ProcessSettings(**{"accelerator": "cpu", **wrong}), lambda fabric: None)
    assert "\n" not in str(error.value)

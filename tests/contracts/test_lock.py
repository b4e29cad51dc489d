"""Two starts on one folder, and what a killed one leaves."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from contracts import lock
from contracts.errors import LikenessError
from contracts.lock import folder_lock

HOLD = (
    "import sys, time; from contracts.lock import folder_lock\nwith folder_lock(sys.argv[1]): print(1, flush=True); {}"
)


def holder(folder: Path, then: str = "time.sleep(60)") -> subprocess.Popen:
    """Another process that holds the lock by now."""
    process = subprocess.Popen([sys.executable, "-c", HOLD.format(then), str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_second_start_names_the_first_and_leaves_the_folder_alone(tmp_path: Path) -> None:
    first = holder(tmp_path / "run")
    try:
        before = (tmp_path / "run" / ".lock").read_bytes()
        line = rf"run' is in use by -c \(process {first.pid} on {socket.gethostname()}\): wait for it, .* delete"
        with pytest.raises(LikenessError, match=line), folder_lock(tmp_path / "run"):
            raise AssertionError
        assert (tmp_path / "run" / ".lock").read_bytes() == before
    finally:
        first.kill()
        first.communicate()
    with folder_lock(tmp_path / "run"):  # killed, so taken over
        assert json.loads((tmp_path / "run" / ".lock").read_text())["process"] == os.getpid()
    assert not list((tmp_path / "run").iterdir())


def test_what_a_killed_process_has_started_is_waited_for(tmp_path: Path) -> None:
    forks = "import os; os.fork() or time.sleep(1) or os._exit(0); print(2, flush=True); time.sleep(60)"
    first = holder(tmp_path, forks)
    assert first.stdout is not None
    assert first.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "PATIENCE", 0.2)
        with pytest.raises(LikenessError, match="it is gone itself: end those"), folder_lock(tmp_path):
            raise AssertionError
    with folder_lock(tmp_path):
        assert not first.stdout.read()  # closed by all who had it
    first.stdout.close()


@pytest.mark.parametrize(
    "left", [b"", b"{", b"[" * 4096, b'{"host": "elsewhere", "process": 7, "command": "train.py"}', b"\0" * 100]
)
def test_what_an_ended_process_left_is_taken_over(tmp_path: Path, left: bytes) -> None:
    (tmp_path / ".lock").write_bytes(left)
    with folder_lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_without_locks_of_the_system_the_name_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    ended = subprocess.Popen(["true"])
    ended.wait()
    for host, process, free in [
        (socket.gethostname(), ended.pid, True),
        (socket.gethostname(), os.getppid(), False),
        ("elsewhere", ended.pid, False),
    ]:
        (tmp_path / ".lock").write_text(json.dumps({"host": host, "process": process, "command": "train.py"}))
        if free:
            with folder_lock(tmp_path):
                pass
        else:
            with pytest.raises(LikenessError, match=f"process {process} on {host}"), folder_lock(tmp_path):
                raise AssertionError


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo", "a file where the folder should be"])
def test_what_lies_in_the_way_is_refused(tmp_path: Path, kind: str) -> None:
    folder, theirs = tmp_path / "run", tmp_path / "theirs"
    theirs.write_text("theirs")
    if kind.startswith("a file"):
        folder.write_text("")
    else:
        folder.mkdir()
    path = folder / ".lock"
    if kind == "link":
        path.symlink_to(theirs)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(LikenessError, match="cannot be written to"), folder_lock(folder):
        raise AssertionError
    assert theirs.read_text() == "theirs"
    assert not (tmp_path / "nowhere").exists()

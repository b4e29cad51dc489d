"""A run folder that somebody else made or uses, and processes that fall silent, with ``train.py`` as users start it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from contracts.lock import folder_lock
from performance.faults.inject import fault
from pocket.tiny.world import TinyWorld

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was told to end after its second step."""
    run = tmp_path_factory.mktemp("company") / "run"
    assert (
        train.main([*tiny_world.arguments(run, trainer__max_steps=4), *fault("Signal", name="SIGTERM", step=2)]) == 143
    )
    return run


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_start_on_a_folder_in_use_changes_nothing(
    trained: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "checkpoints" / ".likeness-0123456789abcdef.part").write_text("what the first start writes just now")
    code = "import sys; from contracts.lock import folder_lock as f\nwith f(sys.argv[1]): print(1, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    first = subprocess.Popen([sys.executable, "-c", code, str(run)], cwd=ROOT, **pipes)
    assert first.stdout is not None and first.stdout.readline()
    try:
        before = content(run)
        assert train.main(tiny_world.arguments(run, trainer__max_steps=4)) == 2
        assert content(run) == before
    finally:
        first.communicate(b"\n")
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: '{run}' is in use by -c (process {first.pid} on ")
    assert train.main(tiny_world.arguments(run, trainer__max_steps=4)) == 0
    assert not [path for path in run.rglob(".*") if path.is_file()], "locks and leftovers are gone"


@pytest.mark.parametrize("part", ["checkpoints", "tensorboard", "adapters", "starts", "tensorboard/hparams.yaml"])
def test_nothing_is_written_behind_a_link_in_a_run_folder(
    trained: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], part: str
) -> None:
    run, theirs = Path(shutil.copytree(trained, tmp_path / "run")), tmp_path / "theirs"
    theirs.mkdir()
    (theirs / ".secret").write_text("theirs")
    if (run / part).exists():
        shutil.move(run / part, theirs / "moved")
    elif "hparams" not in part:
        (theirs / "moved").mkdir()
    (run / part).symlink_to(theirs / "moved")
    before = content(theirs)
    assert train.main(tiny_world.arguments(run, trainer__max_steps=4)) == 2
    assert content(theirs) == before
    assert "is a link, and nothing is written" in capfd.readouterr().err.splitlines()[-1]


def test_a_folder_that_lies_behind_a_link_is_trained_in(trained: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "disk" / "run")
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    assert train.main(tiny_world.arguments(tmp_path / "run", trainer__max_steps=4)) == 0


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_written_follows_the_umask(tiny_world: TinyWorld, tmp_path: Path, umask: int) -> None:
    """The features of faces above all."""
    before = os.umask(umask)
    try:
        changes = {"trainer.max_steps": 1, "data.cache_dir": tmp_path / "cache"}
        assert train.main(tiny_world.arguments(tmp_path / "run", **changes)) == 0
    finally:
        os.umask(before)
    found = [path for folder in ("cache", "run") for path in (tmp_path / folder).rglob("*")]
    assert len([path for path in found if path.suffix == ".safetensors"]) > 3
    for path in found:
        assert path.stat().st_mode & 0o777 & umask == 0, path
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.mark.slow
def test_a_rank_that_stops_in_a_step_is_named(tiny_world: TinyWorld, tmp_path: Path) -> None:
    stop = fault("Signal", name="SIGSTOP", step=2, rank=1)
    given = tiny_world.arguments(tmp_path / "run", **{"trainer.devices": 2, "rank_timeout": 5})
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "train.py", *given, "--trainer.strategy=ddp_fork_find_unused_parameters_true", *stop],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert "did not answer for 5 s, so the others end" in done.stderr.splitlines()[-1]
    assert "error: rank 1 (process " in done.stderr.splitlines()[-1]
    assert time.monotonic() - started < 120
    with folder_lock(tmp_path / "run"):
        pass

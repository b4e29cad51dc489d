"""What the system does to a run ends in one line and exit code 2, and what was there before stays."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import train
from contracts.errors import REPORT, LikenessError
from performance.faults.inject import fault, file_size_limit
from pocket.tiny.world import TinyWorld
from training.mistakes import one_line

ROOT = Path(__file__).parents[2]


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line of an error, without any traceback before it."""
    output = capfd.readouterr()
    assert "Traceback" not in output.err + output.out, output.err[-2000:]
    line = output.err.splitlines()[-1]
    assert line.startswith("error: "), output.err[-2000:]
    return line


@pytest.fixture(scope="module")
def begun(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was told to end after three steps."""
    output = tmp_path_factory.mktemp("begun") / "run"
    stop = fault("Signal", name="SIGTERM", step=3)
    assert train.main([*tiny_world.arguments(output), *stop]) == 143
    return output


@pytest.mark.parametrize(
    "place", ["config.yaml", "starts", "tensorboard", "checkpoints", "adapters", "adapter.safetensors", "manifest.json"]
)
@pytest.mark.parametrize("there", ["a folder", "a file"])
def test_something_else_where_a_run_writes(
    begun: Path, tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], place: str, there: str
) -> None:
    path = tmp_path / "run" / place
    if ("." in place) != (there == "a folder"):
        return
    shutil.copytree(begun, tmp_path / "run")
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if there == "a folder":
        (path / "inside").mkdir(parents=True)
    else:
        path.write_text("something")
    assert train.main(tiny_world.arguments(tmp_path / "run")) == 2
    assert place in last_line(capfd)
    assert path.is_dir() == (there == "a folder")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": "/dev/null/run"}, "/dev/null"),
        ({"output": "/proc/run"}, "/proc/run"),
        ({"output": "{tmp}/" + "x" * 300}, "File name too long"),
        ({"data.cache_dir": "/dev/null/cache"}, "/dev/null"),
        ({"data.cache_dir": "{tmp}/" + "x" * 300}, "File name too long"),
        ({"data.source": "{tmp}/" + "x" * 300}, "xxx"),
        ({"model.backbone": "{tmp}/" + "x" * 300}, "xxx"),
        ({"start_from": "{tmp}/" + "x" * 300}, "xxx"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_place_where_nothing_can_be(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, str], words: str
) -> None:
    given = {name: value.format(tmp=tmp_path) for name, value in changes.items()}
    assert train.main(tiny_world.arguments(given.pop("output", tmp_path / "run"), **given)) == 2
    assert words in last_line(capfd)


@pytest.mark.parametrize(
    ("size", "words"),
    [(100, "File too large"), (20_000, "last.ckpt' could not be written: the disk is full")],
    ids=["configuration", "checkpoint"],
)
def test_a_full_disk(
    tiny_world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int, words: str
) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **{"trainer.logger": False})
    # The cache is filled first: it must not be what is too large.
    assert train.main(tiny_world.arguments(tmp_path / "other", **{"trainer.logger": False})) == 0
    capsys.readouterr()
    with file_size_limit(size):
        assert train.main(arguments) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run" / "adapter.safetensors").exists()
    assert train.main(arguments) == 0


def test_a_killed_loader_process(tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **{"data.num_workers": 2, "trainer.max_steps": 40})
    assert train.main([*arguments, *fault("Worker", step=3)]) == 2
    line = last_line(capfd)
    assert "a loader process" in line and "lower data.num_workers" in line, line


def test_a_loader_process_killed_while_its_batch_is_fetched() -> None:
    batches = iter(DataLoader(torch.zeros(64, 4), batch_size=2, num_workers=1, prefetch_factor=8))
    next(batches)
    (loader,) = batches._workers  # type: ignore[attr-defined]
    # torch's handler would raise at any line, in the middle of another test too.
    reported = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with pytest.raises((OSError, EOFError, RuntimeError)) as raised:
            os.kill(loader.pid, signal.SIGKILL)
            for _ in batches:
                pass
        batches._shutdown_workers()  # type: ignore[attr-defined]
    finally:
        signal.signal(signal.SIGCHLD, reported)
    assert "lower data.num_workers" in (one_line(raised.value) or "")
    told = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    written = LikenessError("checkpoint 'x' could not be written")
    written.__cause__ = told  # torch says it at any line
    assert "lower data.num_workers" in (one_line(written) or "")
    refused = OSError(errno.ECONNRESET, "Connection reset by peer", "somewhere")
    assert "num_workers" not in (one_line(refused) or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xff\xfe\x00\x01model:", "mine.yaml"),
        (b"model: [1", "mine.yaml"),
        ("output: ü\nmodel:\n  init_args:\n    hiden: 3\n".encode(), "hiden"),
        (b"data:\n  enrolment:\n    face_classes: null\n", "data.enrolment.face_classes is null"),
        (b"data:\n  first_stage:\n    init_args:\n      steps: null\n", "data.first_stage.steps is null"),
        (b"model:\n  init_args:\n    warmup_steps: null\n", "model.warmup_steps is null"),
        (b"model:\n  init_args:\n    scale: ${nothing.at.all}\n", "nothing"),
        (b"- a\n- b\n", "mine.yaml"),
    ],
    ids=["binary", "no YAML", "not ASCII", "null", "a stage's null", "a model's null", "interpolation", "a list"],
)
def test_a_configuration_that_is_none(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], text: bytes, words: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(text)
    assert train.main([*tiny_world.arguments(tmp_path / "run"), f"--config={file}"]) == 2
    assert words in last_line(capfd)


def test_slurm_that_does_not_say_how_many_tasks_a_machine_has(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, value)
    assert train.main(tiny_world.arguments(tmp_path / "run")) == 2
    assert "--ntasks-per-node" in last_line(capfd)


def test_a_fault_of_ours_says_where_to_report_it(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("what nobody foresaw")

    monkeypatch.setattr(train, "check_training", broken)
    assert train.main(tiny_world.arguments(tmp_path / "run")) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1] == f"error: {REPORT}" and "AssertionError: what nobody foresaw" in lines


def test_a_reader_that_leaves_and_another_locale_cost_nothing(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """``train.py | head`` with the bar on standard output, a run folder with an umlaut, and a locale without one;
    and a stray rank, which would keep Lightning from writing logs."""
    shown = {"trainer.enable_progress_bar": True, "trainer.max_steps": 3, "trainer.log_every_n_steps": 1}
    arguments = tiny_world.arguments(tmp_path / "läuft", **shown)
    other = {"RANK": "1", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, **other},
    )
    os.close(writing)
    os.close(reading)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors.decode()[-2000:]
    assert (tmp_path / "läuft" / "adapter.safetensors").is_file()
    events = next((tmp_path / "läuft" / "tensorboard").rglob("events.*"))
    assert events.stat().st_size > 500
    assert "LeafSpec" not in errors.decode() and "eval mode" not in errors.decode()

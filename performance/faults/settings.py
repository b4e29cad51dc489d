"""Settings that nobody can honour, that would change a run without a word, or that only look like settings."""

import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from lightning_modules.run import Run
from performance.faults.bench import Bad, Bench, refused, succeeded, told
from performance.faults.fault import a_fault
from performance.faults.inject import fault
from pocket.tiny.components import tiny_base

CPU_LIMIT = 1.0
"""Seconds of CPU in which a misspelt key must be found."""


def _refused(injected: str, words: tuple[str, ...], /, **changes: object) -> None:
    """Add the fault of a training with a few other settings, which must be refused before it makes anything."""

    def inject(bench: Bench) -> str:
        run = bench.new() / "run"
        line = refused(bench.train(bench.training(run, **changes)), *words)
        if run.exists():
            raise Bad("silent", f"refused after it had begun: {line}")
        return line

    a_fault(injected)(inject)


_refused("trainer.overfit_batches", ("overfit_batches", "data.subjects"), **{"trainer.overfit_batches": 1})
_refused("trainer.default_root_dir", ("default_root_dir",), **{"trainer.default_root_dir": "elsewhere"})
_refused("trainer.fast_dev_run", ("fast_dev_run",), **{"trainer.fast_dev_run": True})
_refused("an optimiser of the user's", ("optimizer", "model.learning_rate"), optimizer="torch.optim.SGD")
_refused("trainer.precision 64-true", ("64-true",), **{"trainer.precision": "64-true"})
_refused("trainer.precision 16-true", ("16-true",), **{"trainer.precision": "16-true"})
_refused("trainer.max_steps 0", ("max_steps",), **{"trainer.max_steps": 0})
_refused("an interpolation of nothing", ("nothing.at.all",), **{"model.scale": "${nothing.at.all}"})
_refused("a batch size in words", ("data.batch_size", "many"), **{"data.batch_size": "many"})
_refused("data.enrolment.face_classes null", ("face_classes is null",), **{"data.enrolment": {"face_classes": None}})
_refused("checkpoint_best of an unknown metric", ("identity_misses_zero",), checkpoint_best="identity_mises_zero")
_refused("a subject class without letters", ("subject_class",), **{"data.subject_class": ""})


@a_fault("a misspelt key", short=True)
def misspelt(bench: Bench) -> str:
    slow = 0.0
    for command, arguments in (
        ("train", ["--config=configs/pocket/spotdiff.yaml", "--model.hiden=3"]),
        ("evaluate", ["--protocol.sampels=3", "--output=x"]),
        ("generate", ["--stpes=3", "--run=x", "--photo=x", "--prompts=x", "--output=x"]),
        ("curate", ["--fcaes=x", "a", "b", "--source=x", "--licence=x", "--consent=x"]),
    ):
        ended = bench.start(command, arguments, fresh=True).end()
        refused(ended)
        slow = max(slow, ended.cpu_seconds)
        if ended.cpu_seconds > CPU_LIMIT:
            raise Bad("silent", f"{command}.py takes {ended.cpu_seconds:.1f} s of CPU to say so")
    return f"refused by all four commands, in {slow:.2f} s of CPU at most"


@a_fault("a misspelt key of the trainer")
def misspelt_trainer_key(bench: Bench) -> str:
    return refused(bench.train([*bench.training(bench.new() / "run"), "--trainer.max_stps=3"]), "max_steps")


@a_fault("another learning rate, clipping or seed when a run goes on")
def other_settings(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run)
    told(bench.train([*arguments, *fault("Signal", name="SIGTERM", step=4)]))
    config = (run / "config.yaml").read_bytes()
    lines = []
    for key, value in {
        "model.learning_rate": 1,
        "trainer.gradient_clip_val": 0.5,
        "trainer.precision": "bf16-mixed",
        "trainer.accumulate_grad_batches": 3,
        "seed_everything": 7,
        "trainer.max_steps": 9,
        "data.batch_size": 8,
    }.items():
        lines.append(refused(bench.train([*arguments, f"--{key}={value}"]), key, str(value)))
    if (run / "config.yaml").read_bytes() != config:
        raise Bad("silent", "config.yaml was changed")
    bench.goes_on(arguments, run)
    return lines[0]


@a_fault("another base model for the data than for the method")
def other_base(bench: Bench) -> str:
    other = tiny_base(bench.new() / "base", seed=1)
    return refused(bench.train(bench.training(bench.new() / "run", **{"data.backbone": other})), "model.backbone")


@a_fault("torchrun with two processes and a configuration of one device")
def torchrun(bench: Bench) -> str:
    folder = bench.new()
    code = (
        "import os, sys, runpy; from torch.distributed.run import main; "
        "main(['--standalone', '--nproc_per_node=2', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train.py", *bench.training(folder / "run")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=180,
    )
    if done.returncode:
        raise Bad("silent", f"exit {done.returncode}: {done.stderr[-200:]}")
    processes = Run(folder / "run").manifest["processes"]
    if processes != 2:
        raise Bad("silent", f"the manifest says {processes} process")
    return "one run of two processes"


@a_fault("RANK=1 or SLURM_PROCID=1 left in the environment of a single process")
def stray_rank(bench: Bench) -> str:
    arguments = bench.evaluation(bench.new() / "board")
    ended = succeeded(
        bench.start("evaluate", arguments, environment={"RANK": "1", "SLURM_PROCID": "1"}, fresh=True).end()
    )
    if "| ours" not in ended.out:
        raise Bad("silent", "no board was printed")
    return "the board is written and printed"


@a_fault("SLURM that does not say how many tasks a machine has")
def slurm(bench: Bench) -> str:
    said = {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train"}
    return refused(bench.start("train", bench.training(bench.new() / "run"), environment=said).end(), "ntasks-per-node")


@a_fault("averages of the weights (EMA), stopped and gone on with")
def averages(bench: Bench) -> str:
    ema = "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"
    whole, run = bench.new() / "whole", bench.new() / "run"
    succeeded(bench.train([*bench.training(whole), ema]))
    arguments = [*bench.training(run), ema]
    told(bench.train([*arguments, *fault("Signal", name="SIGTERM", step=4)]))
    bench.goes_on(arguments, run, whole)
    one, other = load_file(run / "adapter.safetensors"), load_file(bench.whole / "adapter.safetensors")
    if all(bool((one[name] == other[name]).all()) for name in one):
        raise Bad("silent", "the adapter holds no averages")
    return "the adapter holds the averages, equal to those of the unbroken run"


def _file(injected: str, content: bytes, *words: str, short: bool = False) -> None:
    """Add the fault of a configuration file, for ``train.py`` and ``evaluate.py``."""

    def inject(bench: Bench) -> str:
        folder = bench.new()
        file = folder / "mine.yaml"
        file.write_bytes(content)
        (folder / "hostile_code.py").write_text(bench.hostile_code())
        path = {"PYTHONPATH": str(folder)}
        lines = []
        for command, arguments in (
            ("train", bench.training(folder / "run")),
            ("evaluate", bench.evaluation(folder / "board")),
        ):
            ended = bench.start(
                command, [f"--config={file}", *arguments], lambda: sys.path.append(str(folder)), path
            ).end()
            lines.append(refused(ended, *words))
            if ended.grown_bytes > 2**30:
                raise Bad("silent", f"{ended.grown_bytes / 1e9:.1f} GB of memory")
        return lines[0]

    a_fault(injected, short)(inject)


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
_file(
    "a class_path of somebody's module",
    b"model:\n  class_path: hostile_code.Model\ntrainer:\n  class_path: hostile_code.Model\n",
    "hostile_code",
)
_file("_target_ in a configuration", b"data:\n  _target_: os.system\nprotocol:\n  _target_: os.system\n", "_target_")
_file("an alias bomb", _BOMB.encode(), "mine.yaml", "values", short=True)
_file("binary YAML", b"\xff\xfe\x00\x01model:", "mine.yaml")
_file("lists within lists, 100,000 deep", b"[" * 100_000, "mine.yaml")


@a_fault("a pipe in place of a configuration")
def pipe(bench: Bench) -> str:
    file = bench.new() / "pipe.yaml"
    os.mkfifo(file)
    refused(bench.train([f"--config={file}", *bench.training(bench.new() / "run")]), "pipe.yaml")
    return refused(bench.evaluate([f"--config={file}", *bench.evaluation(bench.new() / "board")]), "pipe.yaml")


@a_fault("a billion samples of each prompt")
def endless_protocol(bench: Bench) -> str:
    arguments = bench.evaluation(bench.new() / "board", **{"protocol.samples": 10**9})
    return refused(bench.evaluate(arguments), "protocol.samples")


@a_fault("a locale without UTF-8 and a folder with an umlaut; a reader that leaves (| head)")
def locale(bench: Bench) -> str:
    folder = bench.new()
    other = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command, arguments in (
        ("train", bench.training(folder / "läuft")),
        ("evaluate", bench.evaluation(folder / "tafel-ü")),
        ("generate", bench.generation(folder / "bilder-ü", bench.photo())),
    ):
        ended = bench.start(command, arguments, _closed_reader, other, fresh=True).end()
        succeeded(ended)
    return "train.py, evaluate.py and generate.py end well"


def _closed_reader() -> None:
    """In a command's process: standard output becomes a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)

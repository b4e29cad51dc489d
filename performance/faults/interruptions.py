"""Processes that are killed or told to end, disks that are full, and company."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import torch

from contracts.lock import folder_lock
from performance.faults.bench import (
    FORKED,
    Bad,
    Bench,
    as_nobody,
    no_leftovers,
    readable_by_all,
    refused,
    succeeded,
    told,
)
from performance.faults.fault import a_fault
from performance.faults.inject import fault, limit_files

WRITES = 5
"""Checkpoint writes that are broken off."""


@a_fault(f"SIGKILL in a checkpoint's write, {WRITES} times in one run")
def killed_in_a_write(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run)
    delays, killed = random.Random(0), 0
    for _ in range(WRITES):
        before = set((run / "checkpoints").glob(".likeness-*"))
        running = bench.start("train", arguments)
        while running.is_alive() and not set((run / "checkpoints").glob(".likeness-*")) - before:
            pass
        time.sleep(delays.uniform(0, 0.01))
        if running.is_alive():
            running.send(signal.SIGKILL)
            killed += 1
        running.end()
    bench.goes_on(arguments, run)
    return f"killed {killed} times; went on each time, equal to the unbroken run, nothing left behind"


@a_fault("full disk at the first checkpoint", short=True)
def full_disk(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run, **{"trainer.logger": False})
    _ = bench.whole  # which filled the cache, so that a checkpoint is the first file that is too large
    line = refused(bench.train(arguments, lambda: limit_files(20_000)), "last.ckpt", "the disk is full")
    if (run / "adapter.safetensors").exists():
        raise Bad("lost", "an adapter of a run that failed")
    succeeded(bench.train(arguments), "lost")
    return line


@a_fault("full disk at a later checkpoint")
def full_disk_later(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run)
    told(bench.train([*arguments, *fault("Signal", name="SIGTERM", step=2)]))
    before = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    line = refused(bench.train(arguments, lambda: limit_files(20_000)))
    after = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    if before != after:
        raise Bad("lost", f"the checkpoint of step {before} is of step {after}")
    bench.goes_on(arguments, run)
    return line


@a_fault("full disk in evaluate.py")
def full_disk_evaluating(bench: Bench) -> str:
    output = bench.new() / "board"
    arguments = bench.evaluation(output)
    line = refused(bench.evaluate(arguments, lambda: limit_files(3_000)))
    bench.scores_go_on(arguments, output)
    return line


@a_fault("a run folder that may not be written to")
def no_permission(bench: Bench) -> str:
    folder = bench.new()
    readable_by_all(bench.root)
    folder.chmod(0o555)
    return refused(bench.train(bench.training(folder / "run"), as_nobody), str(folder))


@a_fault("a temporary folder on another disk than the run")
def other_temporary_folder(bench: Bench) -> str:
    other = Path("/dev/shm")
    before = set(other.iterdir()) if other.is_dir() else set()
    run = bench.new() / "run"
    arguments = bench.training(run)
    stop = fault("Signal", name="SIGKILL", step=5)
    bench.start("train", [*arguments, *stop], environment={"TMPDIR": str(other)}).end()
    left = {path for path in (set(other.iterdir()) if other.is_dir() else set()) - before if "likeness" in path.name}
    if left:
        raise Bad("lost", f"{left} was left on the other disk")
    bench.goes_on(arguments, run)
    return "checkpoints are written beside their name; went on, equal to the unbroken run"


@a_fault("SIGTERM in a step", short=True)
def told_to_end(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run)
    line = told(bench.train([*arguments, *fault("Signal", name="SIGTERM", step=5)]))
    bench.goes_on(arguments, run)
    return line


@a_fault("Ctrl-C in a validation")
def control_c(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run)
    line = told(bench.train([*arguments, *fault("Signal", name="SIGINT", step=3, validation=True)]))
    bench.goes_on(arguments, run)
    return line


@a_fault("SIGTERM to one of two processes")
def one_told_to_end(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run, **FORKED)
    line = told(bench.train([*arguments, *fault("Signal", name="SIGTERM", step=4, rank=1)]))
    bench.goes_on(arguments, run, bench.whole_forked)
    return line


@a_fault("SIGKILL of one of two processes")
def one_killed(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run, **FORKED)
    line = refused(bench.train([*arguments, *fault("Signal", name="SIGKILL", step=5, rank=1)]), "of this run")
    bench.goes_on(arguments, run, bench.whole_forked)
    return line


@a_fault("one of two processes stops answering")
def one_silent(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run, **FORKED, rank_timeout=5)
    silent = fault("Signal", name="SIGSTOP", step=5, rank=1)
    line = refused(bench.train([*arguments, *silent]), "rank 1", "did not answer for 5 s")
    bench.goes_on(arguments, run, bench.whole_forked)
    return line


@a_fault("resumed in the middle of an accumulated gradient")
def in_an_accumulation(bench: Bench) -> str:
    changes = {"trainer.accumulate_grad_batches": 2, "data.validation.prompts": []}
    whole, run = bench.new() / "whole", bench.new() / "run"
    succeeded(bench.train(bench.training(whole, **changes)))
    arguments = bench.training(run, **changes)
    bench.train([*arguments, *fault("Signal", name="SIGKILL", step=4)])
    bench.goes_on(arguments, run, whole)
    return "went on at the step before, on the same samples, equal to the unbroken run"


@a_fault("resumed at the end of an epoch and in its middle")
def around_an_epoch(bench: Bench) -> str:
    changes = {"trainer.max_steps": 30, "data.first_stage": "null", "data.validation.prompts": []}
    whole = bench.new() / "whole"
    succeeded(bench.train(bench.training(whole, **changes)))
    for step in (24, 25, 28):  # an epoch has 96 photos, four in a batch
        run = bench.new() / "run"
        arguments = bench.training(run, **changes)
        bench.train([*arguments, *fault("Signal", name="SIGKILL", step=step)])
        bench.goes_on(arguments, run, whole)
    return "steps 24, 25 and 28 of epochs of 24: the same samples, equal to the unbroken run"


@a_fault("resumed in one process after two, and in two after one")
def other_number_of_processes(bench: Bench) -> str:
    for first, then in ((FORKED, {}), ({}, FORKED)):
        run = bench.new() / "run"
        told(bench.train([*bench.training(run, **first), *fault("Signal", name="SIGTERM", step=4)]))
        succeeded(bench.train(bench.training(run, **then)), "lost")
        seen: dict[str, list[str]] = {}
        for file in run.parent.glob("run-ids.*"):
            for line in file.read_text().splitlines():
                step, names = json.loads(line)
                seen.setdefault(step, []).extend(names)
        expected: dict[str, list[str]] = {}
        for line in (bench.whole.parent / "whole-ids.0").read_text().splitlines():
            step, names = json.loads(line)
            expected[step] = names
        wrong = [step for step, names in expected.items() if set(seen.get(step, ())) != set(names)]
        if wrong:
            raise Bad("lost", f"step {wrong[0]} had other samples")
    return "each step has the samples that it has in the unbroken run"


@a_fault("a loss that is NaN in one of two processes")
def not_a_number(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run, **FORKED)
    line = refused(bench.train([*arguments, *fault("Poison", step=4, rank=1)]), "became NaN or infinite")
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    if step > 4:
        raise Bad("lost", f"the checkpoint of step {step} replaced a good one")
    return line


@a_fault("a loader process killed")
def killed_loader(bench: Bench) -> str:
    run = bench.new() / "run"
    more = {"data.num_workers": 2, "trainer.max_steps": 40, "data.validation.prompts": []}
    return refused(bench.train([*bench.training(run, **more), *fault("Worker", step=3)]), "loader process")


@a_fault("SIGKILL of an evaluation while it generates and while it scores")
def killed_evaluation(bench: Bench) -> str:
    output = bench.new() / "board"
    arguments = bench.evaluation(output, **{"trainer.devices": 2})
    for pattern, many in (("entries/*/images/*.png", 9), ("entries/*/shards/*.jsonl", 1)):
        running = bench.start("evaluate", arguments)
        while running.is_alive() and len(list(output.glob(pattern))) < many:
            time.sleep(0.002)
        if running.is_alive():
            running.send(signal.SIGKILL)
        running.end()
    bench.scores_go_on(arguments, output)
    return "went on, the table is that of the unbroken evaluation"


@a_fault("Ctrl-C in evaluate.py", short=True)
def control_c_evaluating(bench: Bench) -> str:
    output = bench.new() / "board"
    arguments = bench.evaluation(output)
    running = bench.start("evaluate", arguments)
    while running.is_alive() and not list(output.glob("entries/*/images/*.png")):
        time.sleep(0.002)
    running.send(signal.SIGINT)
    ended = running.end()
    if "Traceback" in ended.err or not ended.code:
        raise Bad("silent", f"exit {ended.code} and a traceback: {ended.err.splitlines()[-1:]}")
    bench.scores_go_on(arguments, output)
    return next(line for line in ended.err.splitlines() if line.startswith("stopped"))


@a_fault("a second start on a folder in use", short=True)
def folder_in_use(bench: Bench) -> str:
    run = bench.copy_of_whole()
    with folder_lock(run):
        part = run / "checkpoints" / ".likeness-0123456789abcdef.part"
        part.write_text("what the first start writes")
        line = refused(bench.train(bench.training(run)), "is in use by")
        if not part.exists():
            raise Bad("lost", "the second start deleted what the first one writes")
    part.unlink()
    return line


@a_fault("a lock and half a file of a process that is gone")
def stale_lock(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run)
    bench.train([*arguments, *fault("Signal", name="SIGKILL", step=5)])
    if not (run / ".lock").exists():
        raise Bad("silent", "the killed process had no lock")
    (run / "checkpoints" / ".likeness-0123456789abcdef.part").write_text("half")
    bench.goes_on(arguments, run)
    return "taken over; nothing left behind"


@a_fault("a clock that goes back, and a folder that was copied")
def clock(bench: Bench) -> str:
    run = bench.new() / "run"
    arguments = bench.training(run)
    told(bench.train([*arguments, *fault("Signal", name="SIGTERM", step=5)]))
    checkpoints = run / "checkpoints"
    os.utime(checkpoints / "interrupted.ckpt", (0, 0))
    copy = bench.new() / "run"
    shutil.copytree(run, copy)
    shutil.copy(run.parent / "run-ids.0", copy.parent / "run-ids.0")
    bench.goes_on(bench.training(copy), copy)
    no_leftovers(copy)
    return "goes on from the latest step, whatever the times of the files say"

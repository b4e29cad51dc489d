"""``python -m performance.kills [NUMBER]``: kill commands at random moments, go on, and compare.

Methods, numbers of processes and phases come in turn; the moment in a phase, and whether all processes are killed or
one of several, is keyed by the seed. Weights, optimiser, sample ids, TensorBoard points, records and tables must be
equal to those of the unbroken run. Prints a row for each kill, and exits with 1 if one differs or hangs.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from performance.faults.bench import FORKED, Bad, Bench, no_leftovers, succeeded
from performance.faults.compare import boards_differ, run_differences
from performance.faults.inject import fault
from performance.faults.start import Hang, Running
from performance.faults.tried import warmed_bench

ENROLS = {"sefi_ide": "SefiIDE", "textual_inversion": "TextualInversion", "dreambooth_lora": "DreamBoothLoRA"}
ENCODERS = ("spotdiff", "pidiff", "ip_adapter", "ip_adapter_plus", "ip_adapter_faceid", "wplus_adapter")
"""Each is a function of :class:`pocket.tiny.world.TinyWorld`, but for SpotDiff's, which is ``arguments``."""
METHODS = (*ENCODERS, *ENROLS)
LETTERS = {"first stage": "f", "step": "s", "checkpoint": "c", "validation": "v"}
"""Phases of a training by what :class:`performance.faults.inject.Phases` writes; a step of those in ``ENROLS``
enrols."""
TRAINING = ("cache", *LETTERS)
EVALUATION = ("generation", "scoring", "report")
ATTEMPTS = 5
"""How often a kill is tried that came when all was done."""


@dataclass(frozen=True)
class Whole:
    """A run and its evaluation that nothing disturbed. ``phases`` is what it wrote of them, ``seconds`` how long the
    training took to its first phase, and from phase to phase."""

    run: Path
    board: Path
    phases: str
    to_first: float
    between: float


class Kills:
    """Kills on a bench, keyed by ``seed``."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench, self._seed = bench, seed
        self.whole = cache(self._whole)

    def kill(self, number: int) -> tuple[str, str, int, str]:
        """Do kill ``number``.

        Returns:
            Phase, method, number of processes, and what differs from the unbroken run afterwards; empty where nothing
            does.
        """
        method = METHODS[number % len(METHODS)]
        processes = 1 + number // len(METHODS) % 2
        whole = self.whole(method, processes)
        phases = [phase for phase in TRAINING if phase == "cache" or LETTERS[phase] in whole.phases]
        phases += EVALUATION
        turn = number // len(METHODS)
        phase = phases[(3 * turn + turn // len(phases) + 2 * number) % len(phases)]  # each with 1 and 2 processes
        for attempt in range(ATTEMPTS):
            draws = random.Random(f"{self._seed}/{number}/{attempt}")
            broken = self._broken_training if phase in TRAINING else self._broken_evaluation
            if (differ := broken(method, processes, phase, draws)) is not None:
                return phase, method, processes, ", ".join(differ[:3])
        return phase, method, processes, "it was never killed in time"

    def _broken_training(self, method: str, processes: int, phase: str, draws: random.Random) -> list[str] | None:
        whole = self.whole(method, processes)
        run = self._bench.new() / "run"
        cold = {"data.cache_dir": run.with_name("cache")} if phase == "cache" else {}
        arguments, note = self._training(method, run, processes, **cold)
        running = self._bench.start("train", [*arguments, *note])
        place = run.with_name("phases")
        if phase == "cache":
            moment, delay = 0, draws.uniform(0, whole.to_first)
        else:
            places = [i for i, letter in enumerate(whole.phases) if letter == LETTERS[phase]]
            moment, delay = draws.choice(places) + 1, draws.uniform(0, whole.between)
        if not self._strike(
            running, lambda: (place.is_file() and place.stat().st_size >= moment) or not moment, delay, draws
        ):
            return None
        succeeded(self._bench.train(arguments), "lost")
        no_leftovers(run)
        ids, whole_ids = (one.with_name(f"{one.name}-ids") for one in (run, whole.run))
        return run_differences(run, whole.run, ids, whole_ids)

    def _broken_evaluation(self, method: str, processes: int, phase: str, draws: random.Random) -> list[str] | None:
        whole = self.whole(method, processes)
        output = self._bench.new() / "board"
        arguments = self._evaluation(whole.run, output, processes)
        running = self._bench.start("evaluate", arguments)
        images = len(list(whole.board.glob("entries/*/images/*.png")))
        moments: dict[str, Callable[[], bool]] = {
            "generation": _reached(output, "entries/*/images/*.png", draws.randrange(1, images)),
            "scoring": _reached(output, "entries/*/shards/*.jsonl", 1),
            "report": _reached(output, "entries/*/records.jsonl", len(list(whole.board.glob("entries/*")))),
        }
        if not self._strike(running, moments[phase], draws.uniform(0, whole.between), draws):
            return None
        succeeded(self._bench.evaluate(arguments), "lost")
        no_leftovers(output)
        return boards_differ(output, whole.board)

    def _strike(self, running: Running, moment: Callable[[], bool], delay: float, draws: random.Random) -> bool:
        """Kill a command ``delay`` seconds after a moment; false where it was done by then."""
        while running.is_alive() and not moment():
            time.sleep(0.001)
        time.sleep(delay)
        alive = running.is_alive()
        if alive:
            started = running.children()
            if started and draws.random() < 0.5:
                os.kill(draws.choice(started), signal.SIGKILL)
            else:
                running.send(signal.SIGKILL)
        return running.end().code != 0 and alive

    def _whole(self, method: str, processes: int) -> Whole:
        bench = self._bench
        run, board = bench.new() / "run", bench.new() / "board"
        arguments, note = self._training(method, run, processes)
        place = run.with_name("phases")
        start = time.monotonic()
        running = bench.start("train", [*arguments, *note])
        while running.is_alive() and not place.is_file():
            time.sleep(0.001)
        to_first = time.monotonic() - start
        succeeded(running.end())
        phases = place.read_text()
        between = (time.monotonic() - start - to_first) / len(phases)
        succeeded(bench.evaluate(self._evaluation(run, board, processes)))
        return Whole(run, board, phases, to_first, between)

    def _training(self, method: str, run: Path, processes: int, **more: object) -> tuple[list[str], list[str]]:
        """Arguments of ``train.py``, and what is added to them so that phases are noted."""
        world = self._bench.world
        settings: dict[str, object] = {
            "data.validation.prompts": list(world.prompts),
            "data.validation.subjects": 1,
            "data.validation.batch_size": 2,
            "trainer.val_check_interval": 3,
            "trainer.check_val_every_n_epoch": "null",
            "trainer.log_every_n_steps": 1,
            "judges.faces": world.faces,
            "judges.clip": world.clip,
            **(FORKED if processes > 1 else {}),
            **more,
        }
        of_faces = {"pidiff": world.wplus_feature, "wplus_adapter": world.wplus_feature}
        of_faces |= {"ip_adapter_faceid": world.face_feature}
        if method in of_faces:
            settings["data.features"] = of_faces[method](detector=str(world.faces))
        if method in ENROLS:
            arguments = world.enrolment(ENROLS[method], run, **settings)
        else:
            make = world.arguments if method == "spotdiff" else getattr(world, method)
            arguments = make(run, **settings)
        ids = fault("SampleIds", place=run.with_name("run-ids"))
        return [*arguments, *ids], fault("Phases", place=run.with_name("phases"))[1:]

    def _evaluation(self, run: Path, output: Path, processes: int) -> list[str]:
        return self._bench.evaluation(output, [f"ours={run}"], **{"trainer.devices": processes})


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _reached(folder: Path, pattern: str, many: int) -> Callable[[], bool]:
    return lambda: len(list(folder.glob(pattern))) >= many


def main(arguments: list[str] | None = None) -> int:
    """Do the kills and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m performance.kills", description=__doc__.splitlines()[0])
    parser.add_argument("number", type=int, nargs="?", default=100, help="how many; 100 by default")
    parser.add_argument("--seed", type=int, default=0, help="another seed takes other moments")
    parser.add_argument("--first", type=int, default=0, help="number of the first one, to go on with a table")
    given = parser.parse_args(arguments)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="likeness-kills-") as folder:
        kills = Kills(warmed_bench(Path(folder)), given.seed)
        print("| kill | phase | method | processes | seconds | afterwards |\n|---:|---|---|---:|---:|---|", flush=True)
        for number in range(given.first, given.first + given.number):
            start = time.monotonic()
            try:
                phase, method, processes, differ = kills.kill(number)
            except (Bad, Hang, OSError) as error:
                phase, method, processes, differ = (
                    "",
                    METHODS[number % len(METHODS)],
                    1 + number // len(METHODS) % 2,
                    str(error),
                )
            found["other" if differ else "equal"] += 1
            seconds = time.monotonic() - start
            print(f"| {number} | {phase} | {method} | {processes} | {seconds:.1f} | {differ or 'equal'} |", flush=True)
    print(f"\n{found.total()} kills: {found['equal']} equal, {found['other']} other")
    return 1 if found["other"] else 0


if __name__ == "__main__":
    sys.exit(main())

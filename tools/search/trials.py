"""One trial: a short training in processes of its own, judged while it trains and ended where it does badly."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import sleep
from typing import IO

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from contracts.errors import SAVED, LikenessError
from contracts.search import State

TRAIN = Path(__file__).parents[2] / "train.py"
LIKENESS = ("identity_misses_zero", "subject_likeness")
FIT = "clip_t"
"""A trial is worth likeness times fit to the prompt, neither below 0: an image that shows only one of them is worth
nothing, and the rank does not depend on the scale of either. The first likeness that was measured counts."""
DIVERGED = "became NaN or infinite"
_LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Ended:
    """How a trial's training ended, and its values by step."""

    values: dict[int, float]
    state: State
    measure: str


def train(arguments: Sequence[str], run: Path, report: Callable[[int, float], bool]) -> Ended:
    """Train into ``run``; ``report`` gets the value of each validation and says whether to end.

    A training that was stopped goes on from its checkpoint. Values that it had before are reported again.

    Raises:
        LikenessError: the training failed for another reason than that it diverged, or was told to end.
    """
    words = [sys.executable, str(TRAIN), *arguments, f"--output={run}"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        said = _Heard(process.stderr)
        reported: dict[int, float] = {}
        measure, bad, running = "", False, True
        try:
            while running:
                sleep(_LOOK_EVERY)
                running = process.poll() is None  # before it looks: what is written until then is seen below
                measure, values = found(run)
                for step in sorted(values.keys() - reported.keys()):
                    reported[step] = values[step]
                    # The values decide, not the moment: one that ended before anybody looked is pruned too.
                    if bad := report(step, values[step]):
                        break
                if bad and running:
                    process.terminate()
                    process.wait()
                if bad:
                    break
        except BaseException:
            process.terminate()
            raise
        said.thread.join()
    if bad:
        return Ended(reported, "pruned", measure)
    if process.returncode == 2 and DIVERGED in said.last:
        return Ended(reported, "failed", measure)
    if process.returncode == SAVED:
        raise KeyboardInterrupt
    if process.returncode:
        raise LikenessError(f"a trial's training failed: {said.last.removeprefix('error: ')}")
    if not reported:
        raise LikenessError(f"{run} logged none of {', '.join(LIKENESS)} beside {FIT}: give judges that measure them")
    return Ended(reported, "complete", measure)


def found(run: Path) -> tuple[str, dict[int, float]]:
    """What the values of a run are, and its values by step, as far as it has come."""
    events = EventAccumulator(str(run / "tensorboard"))
    if not (run / "tensorboard").is_dir():
        return "", {}
    events.Reload()
    tags = events.Tags()["scalars"]
    likeness = next((name for name in LIKENESS if f"val/{name}" in tags), None)
    if likeness is None or f"val/{FIT}" not in tags:
        return "", {}
    # Lightning's loggers count the steps from 0.
    alike, fit = ({e.step + 1: max(e.value, 0.0) for e in events.Scalars(f"val/{name}")} for name in (likeness, FIT))
    return f"{likeness} x {FIT}", {step: alike[step] * fit[step] for step in sorted(alike.keys() & fit.keys())}


class _Heard:
    """Passes on what a training says as it says it, and keeps its last line."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._kept = stream, b""
        self.thread = Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        while piece := self._stream.read1(4096):  # type: ignore[attr-defined]
            self._kept = (self._kept + piece)[-8192:]
            sys.stderr.write(piece.decode(errors="replace"))
            sys.stderr.flush()

    @property
    def last(self) -> str:
        lines = self._kept.decode(errors="replace").splitlines()
        return lines[-1] if lines else ""

"""Where faults are tried: a tiny world, a run and a board that nothing disturbed, and what must hold after it."""

import itertools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from performance.faults.compare import boards_differ, run_differences
from performance.faults.inject import fault
from performance.faults.start import Ended, Running
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID, TEST, TinyWorld

FORKED = {"trainer.devices": 2, "trainer.strategy": "ddp_fork_find_unused_parameters_true"}
CANARY = "canary"
TOLD = 143
"""Exit code of a command that was told to end and saved its state."""


class Bad(Exception):
    """What must not happen: ``lost``, ``executed`` or ``silent``, and what was seen."""

    def __init__(self, verdict: str, seen: str) -> None:
        super().__init__(seen)
        self.verdict = verdict


class Bench:
    """A folder for faults. :meth:`new` gives each of them a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.world = TinyWorld.make(root / "world")
        self._numbers = itertools.count()

    def new(self) -> Path:
        """An empty folder."""
        folder = self.root / f"{next(self._numbers):04d}"
        folder.mkdir()
        return folder

    def start(
        self,
        command: str,
        arguments: Sequence[str],
        before: Callable[[], object] = lambda: None,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> Running:
        """Start a command, see :class:`performance.faults.start.Running`; its cache is this bench's own."""
        own = {"LIKENESS_CACHE": str(self.world.cache), **(environment or {})}
        return Running(command, arguments, self.new(), before, own, fresh)

    # --- training --------------------------------------------------------------------------------------------

    def training(self, output: Path, /, **changes: object) -> list[str]:
        """Six steps of SpotDiff, validated twice, with a checkpoint every second step."""
        usual: dict[str, object] = {
            "data.validation.prompts": list(self.world.prompts),
            "trainer.val_check_interval": 3,
            "trainer.log_every_n_steps": 1,
            "judges.faces": self.world.faces,
            "judges.clip": self.world.clip,
        }
        ids = fault("SampleIds", place=output.with_name(f"{output.name}-ids"))
        return [*self.world.arguments(output, **usual | changes), *ids]

    def train(self, arguments: Sequence[str], before: Callable[[], object] = lambda: None, **environment: str) -> Ended:
        """Run ``train.py`` to its end."""
        return self.start("train", arguments, before, environment).end()

    @cached_property
    def whole(self) -> Path:
        """A run that nothing disturbed."""
        return self._whole()

    @cached_property
    def whole_forked(self) -> Path:
        """The same in two processes."""
        return self._whole(**FORKED)

    def _whole(self, **changes: object) -> Path:
        output = self.new() / "whole"
        succeeded(self.train(self.training(output, **changes)))
        return output

    def photo(self) -> Path:
        """A photo of somebody who was not trained on."""
        file = self.new() / "me.png"
        file.write_bytes(rows_of(TEST[0], GRID)[0]["image"]["bytes"])
        return file

    def hostile_code(self) -> str:
        """Python that leaves a canary, by which :meth:`performance.faults.fault.Fault.tried` sees that it was run."""
        return f"import pathlib\npathlib.Path({str(self.root / CANARY)!r}).write_text('executed')\n"

    def copy_of_whole(self) -> Path:
        """A copy of :attr:`whole` that a fault may spoil."""
        return Path(shutil.copytree(self.whole, self.new() / "run"))

    def goes_on(self, arguments: Sequence[str], run: Path, whole: Path | None = None) -> None:
        """Start a disturbed run again: it must end, equal to the one that nothing disturbed."""
        succeeded(self.train(arguments), "lost")
        self.is_equal(run, whole)

    def is_equal(self, run: Path, whole: Path | None = None) -> None:
        """Raises :class:`Bad` where a run is not the one that nothing disturbed."""
        whole = whole or self.whole
        ids, whole_ids = (one.with_name(f"{one.name}-ids") for one in (run, whole))
        differ = run_differences(run, whole, ids, whole_ids)
        if differ:
            raise Bad("lost", f"after it: other {', '.join(differ[:3])}")
        no_leftovers(run)

    # --- the other commands ----------------------------------------------------------------------------------

    def evaluation(self, output: Path, runs: Sequence[str] | None = None, /, **changes: object) -> list[str]:
        """Twelve images per entry of :attr:`whole`."""
        given = [f"ours={self.whole}"] if runs is None else runs
        return [*self.world.evaluation(output, **changes), *(["--runs", *given] if given else [])]

    def evaluate(
        self, arguments: Sequence[str], before: Callable[[], object] = lambda: None, **environment: str
    ) -> Ended:
        """Run ``evaluate.py`` to its end."""
        return self.start("evaluate", arguments, before, environment).end()

    @cached_property
    def board(self) -> Path:
        """Results that nothing disturbed."""
        output = self.new() / "board"
        succeeded(self.evaluate(self.evaluation(output)))
        return output

    def copy_of_board(self) -> Path:
        """A copy of :attr:`board` that a fault may spoil."""
        return Path(shutil.copytree(self.board, self.new() / "board"))

    def scores_go_on(self, arguments: Sequence[str], output: Path) -> None:
        """Start a disturbed evaluation again: its table must be that of the one that nothing disturbed."""
        succeeded(self.evaluate(arguments), "lost")
        differ = boards_differ(output, self.board)
        if differ:
            raise Bad("lost", f"after it: other {', '.join(differ[:3])}")
        no_leftovers(output)

    def generation(self, output: Path, photo: Path, *more: str, prompts: Sequence[str] = ("a <subject>",)) -> list[str]:
        """An image of whoever is in ``photo`` for each prompt."""
        few = ["--steps=1", "--samples=1", "--device=cpu"]
        return [
            "--run",
            str(self.whole),
            "--photo",
            str(photo),
            f"--output={output}",
            *few,
            *more,
            "--prompts",
            *prompts,
        ]

    def generate(self, arguments: Sequence[str], before: Callable[[], object] = lambda: None) -> Ended:
        """Run ``generate.py`` to its end."""
        return self.start("generate", arguments, before).end()

    def curate(self, photos: Path, output: Path, *more: str, before: Callable[[], object] = lambda: None) -> Ended:
        """Run ``curate.py`` to its end."""
        said = ["--source=renderer", "--licence=Apache-2.0", "--consent=nobody real", "--det_size=[128]"]
        return self.start("curate", [str(photos), str(output), *said, *more], before).end()


# --- what must hold ------------------------------------------------------------------------------------------------


def succeeded(ended: Ended, verdict: str = "silent") -> Ended:
    """Raises :class:`Bad` unless the command ended well."""
    if ended.code:
        raise Bad(verdict, f"exit {ended.code}: {_last(ended.err)}")
    return ended


def refused(ended: Ended, *words: str, code: int = 2) -> str:
    """The one line with which the command ended; raises :class:`Bad` where there is none that holds all words."""
    line = _last(ended.err)
    if "Traceback" in ended.err:
        raise Bad("silent", f"a traceback: {line}")
    if ended.code != code:
        raise Bad("silent", f"exit {ended.code}, not {code}: {line}")
    if f"error: {line}" not in ended.err.splitlines() or not all(word in line for word in words):
        raise Bad("silent", f"the line does not say {' or '.join(words)}: {line}")
    return line


def told(ended: Ended) -> str:
    """What a command said that was told to end; raises :class:`Bad` where it did not save and say so."""
    line = _last(ended.err)
    if ended.code != TOLD or "stopped: the state is saved" not in line:
        raise Bad("lost", f"exit {ended.code}: {line}")
    return line


def no_leftovers(folder: Path) -> None:
    """Raises :class:`Bad` where something half-written, or a lock, is left."""
    left = [path for path in folder.rglob(".*") if path.is_file()]
    if left:
        raise Bad("lost", f"left behind: {left[0].name}")


def unchanged(before: bytes, path: Path) -> None:
    """Raises :class:`Bad` where a file is not as it was."""
    if not path.is_file() or path.read_bytes() != before:
        raise Bad("lost", f"{path.name} is not as it was")


def readable_by_all(folder: Path) -> None:
    """Let everybody read all below a folder."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))


def as_nobody() -> None:
    """In a command's process: an administrator may write everywhere, so become somebody who may not."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "nothing was said"

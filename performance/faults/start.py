"""Commands of this project in processes of their own, watched from outside: do they end, how, and what is left."""

import importlib
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 60.0
"""Seconds after which a command hangs; a fresh interpreter has twice as many, as its imports take some of them."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; minus the signal's number where one ended it."""
    out: str
    err: str
    seconds: float
    cpu_seconds: float
    grown_bytes: int
    """Peak of resident memory beyond what the process had when it began."""


class Hang(Exception):
    """A command that did not end, or that left processes behind."""


class Running:
    """A command as the head of its own group of processes.

    Args:
        command: ``train``, ``evaluate``, ``curate`` or ``generate``.
        arguments: What it is told.
        folder: Where its output is written to.
        before: What happens in its process before it begins, such as a limit that is set.
        environment: Variables that it gets beside those of this process.
        fresh: In a new interpreter, as users start it. Else in a fork of this one, which has imported everything.
    """

    def __init__(
        self,
        command: str,
        arguments: Sequence[str],
        folder: Path,
        before: Callable[[], object] = lambda: None,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> None:
        self._name = f"{command}.py"
        self._limit = 2 * LIMIT if fresh else LIMIT
        self._out, self._err = folder / "stdout", folder / "stderr"
        for file in (self._out, self._err):  # a fork may be killed before it opens them
            file.touch()
        self._started = time.monotonic()
        self._resident = 0 if fresh else _resident()
        sys.stdout.flush()
        sys.stderr.flush()
        if fresh:
            with self._out.open("wb") as out, self._err.open("wb") as err:
                self.process = subprocess.Popen(
                    [sys.executable, str(ROOT / self._name), *arguments],
                    cwd=ROOT,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                    preexec_fn=before,
                ).pid
        else:
            self.process = os.fork()
            if not self.process:
                self._work(command, arguments, before, environment or {})
            with suppress(OSError):  # it does so itself, and may be first
                os.setpgid(self.process, self.process)
        self._status: tuple[int, resource.struct_rusage] | None = None

    def _work(
        self, command: str, arguments: Sequence[str], before: Callable[[], object], environment: Mapping[str, str]
    ) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            for path, stream in ((self._out, 1), (self._err, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            os.chdir(ROOT)
            os.environ |= environment
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            before()
            code = importlib.import_module(command).main(list(arguments))
            sys.stdout.flush()
        except BaseException:  # what an interpreter would print as it ends
            traceback.print_exc()
        finally:
            os._exit(code)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        if self._status is None:
            process, status, usage = os.wait4(self.process, os.WNOHANG)
            if process:
                self._status = (os.waitstatus_to_exitcode(status), usage)
        return self._status is None

    def send(self, number: int, to_all: bool = True) -> None:
        """Send a signal to its processes, or to the first of them alone."""
        if to_all:
            os.killpg(self.process, number)
        else:
            os.kill(self.process, number)

    def children(self) -> list[int]:
        """The processes that its first one has started."""
        return [int(child) for child in Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()]

    def end(self) -> Ended:
        """Wait for it, at most :data:`LIMIT`; raises :class:`Hang`."""
        until = time.monotonic() + self._limit
        while self.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        seconds = time.monotonic() - self._started
        left = self._left_behind(until)
        if self._status is None or left:
            os.killpg(self.process, signal.SIGKILL)
            if self._status is None:
                os.wait4(self.process, 0)
                raise Hang(f"{self._name} did not end in {self._limit:.0f} s")
            raise Hang(f"{self._name} ended and left processes behind")
        code, usage = self._status
        return Ended(
            code=code,
            out=self._out.read_text(errors="replace"),
            err=self._err.read_text(errors="replace"),
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            grown_bytes=max(0, usage.ru_maxrss * 1024 - self._resident),
        )

    def _left_behind(self, until: float) -> bool:
        """Whether its group still has processes; they have until then to end by themselves."""
        while True:
            try:
                os.killpg(self.process, 0)
            except ProcessLookupError:
                return False
            if self._status is None or time.monotonic() > until:
                return True
            time.sleep(0.01)


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

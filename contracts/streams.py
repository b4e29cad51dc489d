"""Standard output that outlives its reader, and texts and names in UTF-8 in every locale."""

import io
import os
import sys
from typing import TextIO


def speak_utf8() -> None:
    """Start this program anew in Python's UTF-8 mode where the locale has another encoding.

    There, names of files with letters that it lacks could not be handed to every library. Call this first of all.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class _Outliving(io.TextIOBase):
    """Writes to ``stream`` until its reader is gone, then to nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._leave()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def _leave(self) -> None:
        # The stream still holds what it could not write: it goes nowhere too, or the interpreter would end with it.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def outlive_readers() -> None:
    """From now on a closed pipe (``| head``) costs the rest of what is shown, and not the work."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before this program began
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the rest of the process
            continue
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _Outliving(stream))


def say_stopped(kept: str = "what is done is kept") -> None:
    """The last line of a command that was told to stop; ``kept`` says what is not lost."""
    # A progress bar, which nobody has closed yet, has not ended its line.
    print(f"\nstopped: {kept}; the same command goes on from here", file=sys.stderr)

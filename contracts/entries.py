"""How a command line names folders that take part: ``FOLDER`` or ``LABEL=FOLDER``, with ``@STEP`` where a folder holds
several steps of one training."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import LikenessError

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_STEP = re.compile(r"(?P<folder>.+)@(?P<step>\d+)")


@dataclass(frozen=True)
class NamedFolder:
    """A folder that takes part as ``label``. ``step`` is of the training in it; ``None`` is how the training ended."""

    label: str
    path: Path
    step: int | None = None


def parse_named_folder(argument: str, option: str, steps: bool = False) -> NamedFolder:
    """Read one word of the command line.

    A path that exists as it is written is that path, whatever characters are in it. Otherwise what stands before the
    first ``=`` is the label, if it is made of letters, digits, ``.``, ``_`` and ``-``. ``~`` is the home folder.
    Without a label the folder's name is one, with ``-STEP`` behind it where a step is named.

    Args:
        option: What the word belongs to, for messages: ``--runs``.
        steps: Whether ``@STEP`` may stand at the end.

    Raises:
        LikenessError: there is no label, and the folder's name cannot be one; or no path can be written so.
    """
    if "\0" in argument:
        raise LikenessError(f"{option}: there is no folder {argument!r}")
    path, step = split_step(argument) if steps else (Path(argument).expanduser(), None)
    label, separator, rest = argument.partition("=")
    if not path.exists() and separator and rest and _LABEL.fullmatch(label):
        return NamedFolder(label, *(split_step(rest) if steps else (Path(rest).expanduser(), None)))
    name = path.resolve().name + ("" if step is None else f"-{step}")
    if not _LABEL.fullmatch(name):
        rest = argument if path.exists() else rest or argument
        raise LikenessError(
            f"{option}: {name!r} is no label: a label is made of letters, digits, '.', '_' and '-' and begins with "
            f"none of '.' and '-'; give one with LABEL={rest}"
        )
    return NamedFolder(name, path, step)


def split_step(text: str) -> tuple[Path, int | None]:
    """Folder and step of ``FOLDER@STEP``, no step for ``FOLDER``; a folder that exists as it is written has none."""
    whole = Path(text).expanduser()
    if not whole.exists() and (found := _STEP.fullmatch(text)):
        return Path(found["folder"]).expanduser(), int(found["step"])
    return whole, None


def sweep_values(text: str) -> list[float]:
    """The values of ``--sweep 0.2,0.4``, in ascending order, each once; none for an empty text.

    Raises:
        LikenessError: one of them is no finite number.
    """
    values = set()
    for word in text.split(",") if text else ():
        try:
            values.add(float(word))
        except ValueError:
            values.add(math.nan)
        if not all(map(math.isfinite, values)):
            raise LikenessError(f"--sweep: {word!r} is no number: give numbers such as 0.2,0.4,0.8")
    return sorted(values)

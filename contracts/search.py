"""A search for a method's settings, as its ``search.json`` keeps it, and what a run says of the search it stands on."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from contracts.errors import LikenessError
from contracts.files import file_sha256, read_file, write_json
from contracts.strict_json import parse

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """A short training with ``settings``, which are values by key of ``train.py``."""

    settings: dict[str, Any]
    values: dict[int, float]
    """What a validation found, by its step."""
    state: State

    @property
    def value(self) -> float:
        """What the last validation found."""
        return self.values[max(self.values)]


@dataclass(frozen=True)
class Search:
    """The trials of a search, and the effort that it is allowed."""

    config: dict[str, Any]
    """The configuration that the trials share, with their short training."""
    space: dict[str, Any]
    """What may be tried, by key, as the space's file has it."""
    measure: str
    """What the values are."""
    allowed: int
    """Number of trials."""
    steps: int
    """Training steps of a trial."""
    subjects: int
    """Validation subjects that a trial is judged on."""
    trials: tuple[Trial, ...] = ()

    @property
    def best(self) -> Trial:
        """The trial that did best.

        Raises:
            LikenessError: none was trained to its end.
        """
        complete = [trial for trial in self.trials if trial.state == "complete"]
        if not complete:
            raise LikenessError("no trial of the search was trained to its end: take a narrower space")
        return max(complete, key=lambda trial: trial.value)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Search":
        """Raises :class:`LikenessError` where the file is missing or damaged."""
        try:
            found = parse(read_file(path, 2**24).decode())
            trials = [
                Trial(t["settings"], {int(s): v for s, v in t["values"].items()}, t["state"]) for t in found["trials"]
            ]
            return cls(**{**found, "trials": tuple(trials)})
        except OSError as error:
            raise LikenessError(f"search: {str(path)!r} cannot be read: {error.strerror}") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LikenessError(f"search: {str(path)!r} is no search.json of tools.search: {error!r}") from None


def search_facts(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest of a run says of the search in ``path``; ``config`` is how the run is trained.

    Raises:
        LikenessError: the search is not through, or the run is trained with another setting than the best trial.
    """
    search = Search.read(path)
    if len(search.trials) < search.allowed:
        raise LikenessError(f"search: {str(path)!r} has {len(search.trials)} of {search.allowed} trials: finish it")
    for key, value in search.best.settings.items():
        if (here := setting(config, key)) != value:
            raise LikenessError(
                f"search: the best trial in {str(path)!r} has {key} {value!r}, here it is {here!r}: give that, or "
                "leave search out, and the run counts as tuned by hand"
            )
    return {
        "trials": search.allowed,
        "pruned": _count(search.trials, "pruned"),
        "failed": _count(search.trials, "failed"),
        "steps": search.steps,
        "subjects": search.subjects,
        "measure": search.measure,
        "value": search.best.value,
        "sha256": file_sha256(path),
    }


def setting(config: Mapping[str, Any], key: str) -> Any:
    """The value of ``key`` in a resolved configuration; keys of classes leave ``init_args`` out. ``None`` if it is not
    there."""
    part: Any = config
    for name in key.split("."):
        if isinstance(part, Mapping) and name not in part:
            part = part.get("init_args")
        part = part.get(name) if isinstance(part, Mapping) else None
    return part


def _count(trials: Iterable[Trial], state: State) -> int:
    return sum(trial.state == state for trial in trials)

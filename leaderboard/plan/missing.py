"""What an evaluation is made of, looked for at once: what is missing is told in one list, before anything is loaded.

What takes reading photos or running networks to find is found by the plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from contracts.errors import LikenessError, Problems
from contracts.settings import PRECISIONS, Contestants, EvaluationSettings, JudgeSettings, ProtocolSettings
from datamodules.sources import find_shards
from leaderboard.images.taking import ImagesEntry
from leaderboard.plan.checks import own_judges
from leaderboard.plan.entries import CEILING, FLOOR, RunEntry, find_images, find_run
from leaderboard.plan.prompts import prompts_of
from metrics.card import judge_networks
from networks.backbone import backbone_resolution
from networks.pretrained import UNREADABLE, first_line
from networks.sampler import SamplingSettings


@dataclass(frozen=True)
class Entrants:
    """Who takes part beside the ceiling and the floor that is generated."""

    runs: list[RunEntry]
    images: list[ImagesEntry]

    @property
    def labels(self) -> set[str]:
        """Their labels."""
        return {one.entry.label for one in self.runs} | {one.label for one in self.images}


def find_entrants(settings: EvaluationSettings, given: Contestants) -> Entrants:
    """Look for everything that the settings and the command name.

    Raises:
        LikenessError: with a line for each thing that is missing or cannot be used.
    """
    problems = Problems(_wrong_numbers(settings, given))
    wanted = settings.protocol
    problems.attempt(lambda: prompts_of(wanted))
    if wanted.dataset != "pocket10k":  # which is rendered where it is missing
        problems.attempt(lambda: _check_dataset(wanted.dataset))
    problems.attempt(lambda: _check_backbone(wanted, bool(given.runs)))
    problems.lines += _missing_judges(settings.judges)
    labels = {CEILING.label, FLOOR.label}
    runs = [problems.attempt(partial(_find_run, argument, labels, settings.judges)) for argument in given.runs]
    if wanted.backbone is None:  # which would generate the floor
        labels.discard(FLOOR.label)
    images = [
        problems.attempt(partial(find_images, argument, labels, given.allow_missing)) for argument in given.images
    ]
    problems.tell()
    return Entrants([run for run in runs if run], [one for one in images if one])


def _find_run(argument: str, labels: set[str], judges: JudgeSettings) -> RunEntry:
    one = find_run(argument, labels)
    return replace(one, entry=replace(one.entry, own_judges=own_judges(one.run, judges)))


def _wrong_numbers(settings: EvaluationSettings, given: Contestants) -> Iterator[str]:
    """A line for every number out of range, and for a sampler or precision that there is not."""
    wanted: ProtocolSettings = settings.protocol
    try:
        SamplingSettings(wanted.sampler, wanted.steps, wanted.guidance)
    except LikenessError as error:
        yield str(error)
    for name, most in (("resolution", 2**14), ("samples", 10_000), ("steps", 10_000)):
        if not 1 <= (found := getattr(wanted, name)) <= most:
            yield f"protocol.{name} is {found}, it must be at least 1 and at most {most}"
    if settings.batch_size < 1:
        yield f"batch_size is {settings.batch_size}, it must be at least 1"
    if settings.limit is not None and settings.limit < 1:
        yield f"--limit is {settings.limit}, it must be at least 1"
    if not 0 <= given.allow_missing <= 1:
        yield f"--allow_missing is {given.allow_missing:g}, it must be a share from 0 to 1"
    if settings.trainer.precision not in PRECISIONS:
        yield f"trainer.precision is {settings.trainer.precision!r}, it must be one of {', '.join(PRECISIONS)}"


def _check_dataset(source: str) -> None:
    try:
        find_shards(source)
    except LikenessError as error:
        raise LikenessError(f"protocol.dataset: {error}") from error


def _check_backbone(wanted: ProtocolSettings, has_runs: bool) -> None:
    """The base model must be there and generate images of the protocol's size; runs need one."""
    if wanted.backbone is None:
        if has_runs:
            raise LikenessError("--runs: a run needs its base model, and protocol.backbone is null: name it there")
        return
    try:
        side = backbone_resolution(wanted.backbone)
    except LikenessError as error:
        raise LikenessError(f"protocol.backbone: {error}") from error
    except UNREADABLE as error:
        raise LikenessError(f"protocol.backbone: {wanted.backbone!r} is not readable: {first_line(error)}") from error
    if wanted.resolution != side:
        raise LikenessError(
            f"protocol.resolution is {wanted.resolution}, the base model {wanted.backbone} generates {side} x {side} "
            "pixels"
        )


def _missing_judges(judges: JudgeSettings) -> Iterator[str]:
    """A line for each network that judges and is not there."""
    sources = [name for name, value in vars(judges).items() if isinstance(value, str)]
    for name in sources:
        others: dict = dict.fromkeys(other for other in sources if other != name)
        try:
            judge_networks(replace(judges, **others))
        except LikenessError as error:
            yield f"judges.{name}: {str(error).removeprefix(f'judges.{name}: ')}"

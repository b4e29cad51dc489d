"""The stages that generate and judge, over one results folder, in any number of processes."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from lightning.fabric import Fabric

from contracts.errors import LikenessError
from contracts.settings import EvaluationSettings
from datamodules.features.registry import Settings
from datamodules.subjects import load_subjects
from leaderboard.generate.generation import (
    Generator,
    ModelGenerator,
    PromptOnly,
    RealPhotoGenerator,
    generate,
    trained_features,
)
from leaderboard.plan.checks import own_judges
from leaderboard.plan.plan import CEILING, FLOOR, RunEntry, find_runs, make_plan
from leaderboard.processes import launch, on_first, together
from leaderboard.results.folder import Entry, Results
from leaderboard.score.scoring import load_judges, score
from lightning_modules.base import PersonalisationModule
from metrics.gallery import load_galleries


def generate_and_score(
    settings: EvaluationSettings, results: Results, runs: Sequence[str], stages: Collection[str]
) -> list[str]:
    """Run the stages ``generate`` and ``score``, or one of them.

    Returns:
        A line for each method that could not be generated or scored; all the others were.

    Raises:
        LikenessError: something that the user can mend; what was finished before stays.
    """
    if "generate" not in stages and not results.entries():
        raise LikenessError(f"nothing to score in {results.root}: run `--stage generate` first")
    found = [
        replace(one, entry=replace(one.entry, own_judges=own_judges(one.run, settings.judges)))
        for one in find_runs(runs)
    ]
    return launch(settings.trainer, partial(_work, settings=settings, results=results, runs=found, stages=stages))


def _work(
    fabric: Fabric, settings: EvaluationSettings, results: Results, runs: Sequence[RunEntry], stages: Collection[str]
) -> list[str]:
    on_first(fabric, partial(_plan, settings, results, runs))
    failed: dict[str, str] = {}
    if "generate" in stages:
        _generate_all(fabric, settings, results, runs, failed)
    if "score" in stages:
        _score_all(fabric, settings, results, runs, failed)
    return [f"{label}: {message}" for label, message in failed.items()]


def _generate_all(
    fabric: Fabric, settings: EvaluationSettings, results: Results, runs: Sequence[RunEntry], failed: dict[str, str]
) -> None:
    protocol = results.protocol()
    for entry, make_generator in _generators(fabric, settings, results, runs):
        with _set_aside(fabric, entry, failed):
            generated = generate(
                fabric, protocol, entry, results.entry(entry.label), make_generator, settings.batch_size
            )
            _say(
                fabric, f"{entry.label}: {generated} images generated, {len(protocol.requests) - generated} were there"
            )


def _score_all(
    fabric: Fabric, settings: EvaluationSettings, results: Results, runs: Sequence[RunEntry], failed: dict[str, str]
) -> None:
    """Score what is generated. An entry that was not asked for now is left out where some of its images are missing."""
    planned = [request.id for request in results.protocol().requests]
    named = {one.entry.label for one in runs} - failed.keys()
    entries = results.entries()
    if unknown := sorted(named - {entry.label for entry in entries}):
        raise LikenessError(f"nothing is generated of {', '.join(unknown)}: run `--stage generate` first")
    judges = together(fabric, partial(load_judges, settings.judges, fabric.device))
    for entry in entries:
        folder = results.entry(entry.label)
        generated = sum(folder.image(request_id).is_file() for request_id in planned)
        if generated < len(planned) and entry.kind == "method" and entry.label not in named:
            _say(fabric, f"left out {entry.label}: {generated} of {len(planned)} images are generated")
            continue
        with _set_aside(fabric, entry, failed):
            scored = score(fabric, results, entry, judges, settings.batch_size)
            _say(fabric, f"{entry.label}: {scored} images scored, {len(planned) - scored} were there")


@contextmanager
def _set_aside(fabric: Fabric, entry: Entry, failed: dict[str, str]) -> Iterator[None]:
    """Note the failure of a method, which costs the others nothing. Without floor and ceiling there is no table."""
    try:
        yield
    except LikenessError as error:
        if entry.kind != "method":
            raise
        failed[entry.label] = str(error)
        _say(fabric, f"left out {entry.label}: {error}")


def _plan(settings: EvaluationSettings, results: Results, runs: Sequence[RunEntry]) -> None:
    for note in make_plan(settings, results, runs):
        print(f"note: {note}")


def _generators(
    fabric: Fabric, settings: EvaluationSettings, results: Results, runs: Sequence[RunEntry]
) -> list[tuple[Entry, Callable[[], Generator]]]:
    """Every entry to generate, with what makes its generator when images are missing."""
    protocol, wanted = results.protocol(), settings.protocol

    def model(make_module: Callable[[], PersonalisationModule], features: Settings) -> Generator:
        photos = {subject: results.reference(subject).read_bytes() for subject in protocol.subjects}
        return ModelGenerator(fabric, protocol, photos, wanted.backbone, make_module, features)

    def ceiling() -> Generator:
        subjects = load_subjects(wanted.dataset, wanted.subjects, wanted.resolution, wanted.faceless)
        return RealPhotoGenerator(protocol, load_galleries(results.galleries, tuple(protocol.subjects)), subjects)

    methods = [
        (one.entry, partial(model, partial(one.run.load, wanted.backbone), trained_features(one.run))) for one in runs
    ]
    return [
        (FLOOR, partial(model, partial(PromptOnly, wanted.backbone), {})),
        (CEILING, partial(together, fabric, ceiling)),
        *methods,
    ]


def _say(fabric: Fabric, text: str) -> None:
    if fabric.global_rank == 0:
        print(text)

"""The stages that draw and judge, over one results folder, in any number of processes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from lightning.fabric import Fabric

from leaderboard.artists import ModelArtist, PromptOnly, trained_encoders
from leaderboard.entries import CEILING, FLOOR, CeilingArtist, Run, find_runs
from leaderboard.galleries import load_galleries
from leaderboard.generation import Artist, generate
from leaderboard.own_judges import own_judges
from leaderboard.plan import make_plan
from leaderboard.processes import launch, on_first, together
from leaderboard.results import Entry, Results
from leaderboard.scoring import load_judges, score
from leaderboard.settings import EvaluationSettings
from leaderboard.subjects import load_subjects
from lightning_modules.loading import load_run


def draw_and_score(
    settings: EvaluationSettings, results: Results, runs: Sequence[str], stages: Collection[str]
) -> None:
    """Run the stages ``generate`` and ``score``, or one of them.

    Raises:
        LikenessError: something that the user can mend; what was finished before stays.
    """
    found = [
        replace(run, entry=replace(run.entry, own_judges=own_judges(run.folder, settings.judges)))
        for run in find_runs(runs)
    ]
    launch(settings.trainer, partial(_work, settings=settings, results=results, runs=found, stages=stages))


def _work(
    fabric: Fabric, settings: EvaluationSettings, results: Results, runs: Sequence[Run], stages: Collection[str]
) -> None:
    on_first(fabric, partial(_plan, settings, results, runs))
    if "generate" in stages:
        for entry, make_artist in _artists(fabric, settings, results, runs):
            drawn = generate(
                fabric, results.protocol(), entry, results.entry(entry.label), make_artist, settings.batch_size
            )
            _say(fabric, f"{entry.label}: {drawn} images drawn, {len(results.protocol().requests) - drawn} were there")
    if "score" in stages:
        judges = together(fabric, partial(load_judges, settings.judges, fabric.device))
        for entry in results.entries():
            scored = score(fabric, results, entry, judges, settings.batch_size)
            _say(
                fabric, f"{entry.label}: {scored} images scored, {len(results.protocol().requests) - scored} were there"
            )


def _plan(settings: EvaluationSettings, results: Results, runs: Sequence[Run]) -> None:
    for note in make_plan(settings, results, runs):
        print(f"note: {note}")


def _artists(
    fabric: Fabric, settings: EvaluationSettings, results: Results, runs: Sequence[Run]
) -> list[tuple[Entry, Callable[[], Artist]]]:
    """Every entry to draw, with what makes its artist when images are missing."""
    protocol, wanted = results.protocol(), settings.protocol
    model = partial(ModelArtist, fabric, protocol, results, wanted.backbone)

    def ceiling() -> Artist:
        subjects = load_subjects(wanted.dataset, wanted.subjects, wanted.resolution)
        return CeilingArtist(protocol, load_galleries(results.galleries, tuple(protocol.subjects)), subjects)

    methods = [
        (run.entry, partial(model, partial(load_run, run.folder, wanted.backbone), trained_encoders(run.folder)))
        for run in runs
    ]
    return [(FLOOR, partial(model, partial(PromptOnly, wanted.backbone))), (CEILING, ceiling), *methods]


def _say(fabric: Fabric, text: str) -> None:
    if fabric.global_rank == 0:
        print(text)

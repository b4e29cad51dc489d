"""The three stages over one results folder, each resumable."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from lightning.fabric import Fabric
from lightning.fabric.utilities.rank_zero import rank_zero_only

from leaderboard.artists import ModelArtist, PromptOnly, trained_image_encoder
from leaderboard.entries import CEILING, FLOOR, CeilingArtist, Run, find_runs
from leaderboard.galleries import load_galleries
from leaderboard.generation import Artist, generate
from leaderboard.judges import Judges
from leaderboard.plan import make_plan
from leaderboard.processes import launch, on_first, together
from leaderboard.report import write_report
from leaderboard.results import Entry, Results
from leaderboard.scoring import score
from leaderboard.settings import EvaluationSettings
from leaderboard.subjects import load_subjects
from lightning_modules.loading import load_run

Stage = Literal["all", "generate", "score", "report"]


def evaluate(settings: EvaluationSettings, runs: Sequence[str], output: str, stage: Stage) -> None:
    """Run a stage, or all of them.

    Raises:
        LikenessError: something that the user can mend; what was finished before stays.
    """
    results, found = Results(output), find_runs(runs)
    if stage != "report":
        launch(settings.trainer, partial(_draw_and_score, settings=settings, results=results, runs=found, stage=stage))
    if stage in ("all", "report"):
        _report(results)


@rank_zero_only
def _report(results: Results) -> None:
    table, notes = write_report(results)
    for note in notes:
        print(f"note: {note}; left out")
    print(table)


def _draw_and_score(fabric: Fabric, settings: EvaluationSettings, results: Results, runs: Sequence[Run], stage: Stage) -> None:
    on_first(fabric, partial(_plan, settings, results))
    if stage in ("all", "generate"):
        for entry, make_artist in _artists(fabric, settings, results, runs):
            drawn = generate(fabric, results.protocol(), entry, results.entry(entry.label), make_artist, settings.batch_size)
            _say(fabric, f"{entry.label}: {drawn} images drawn, {len(results.protocol().requests) - drawn} were there")
    if stage in ("all", "score"):
        judges = together(fabric, partial(Judges, settings.judges))
        for entry in results.entries():
            scored = score(fabric, results, entry, judges, settings.batch_size)
            _say(fabric, f"{entry.label}: {scored} images scored, {len(results.protocol().requests) - scored} were there")


def _plan(settings: EvaluationSettings, results: Results) -> None:
    for note in make_plan(settings, results):
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
        (run.entry, partial(model, partial(load_run, run.folder, wanted.backbone), trained_image_encoder(run.folder))) for run in runs
    ]
    return [(FLOOR, partial(model, partial(PromptOnly, wanted.backbone))), (CEILING, ceiling), *methods]


def _say(fabric: Fabric, text: str) -> None:
    if fabric.global_rank == 0:
        print(text)

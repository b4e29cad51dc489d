"""The stages that generate and judge, over one results folder, in any number of processes."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from lightning.fabric import Fabric

from contracts.errors import LikenessError
from contracts.lock import folder_lock
from contracts.settings import Contestants, EvaluationSettings
from datamodules.features.registry import Settings
from datamodules.subjects import load_subjects
from leaderboard.generate.generation import (
    Generator,
    ModelGenerator,
    PromptOnly,
    generate,
    trained_features,
)
from leaderboard.generate.photos import RealPhotoGenerator, ReconstructionGenerator, photo_side
from leaderboard.images.requests_file import NAME as REQUESTS
from leaderboard.loras.module import LorasOn
from leaderboard.plan.described import described_entry, read_described
from leaderboard.plan.missing import Entrants, find_entrants
from leaderboard.plan.plan import make_plan
from leaderboard.processes import launch, on_first, together
from leaderboard.results.anchors import CEILING, FLOOR, RECONSTRUCTION, is_required, shows_photo
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.image_files import image_bytes
from leaderboard.results.names import training_of
from leaderboard.score.calibration import calibrate
from leaderboard.score.scoring import load_judges, score
from lightning_modules.base import PersonalisationModule
from metrics.gallery import load_galleries
from networks.backbone import load_backbone
from networks.precision import generating_precision


def generate_and_score(
    settings: EvaluationSettings, results: Results, given: Contestants, stages: Collection[str]
) -> list[str]:
    """Plan, and run the stages ``generate`` and ``score``, or one of them.

    Returns:
        A line for each method that could not be generated or scored; all the others were.

    Raises:
        LikenessError: something that the user can mend; what was finished before stays.
    """
    if stages == ("score",) and not results.entries():
        raise LikenessError(f"nothing to score in {results.root}: run `--stage generate` first")
    entrants = find_entrants(settings, given, results)
    trainer = settings.trainer
    trainer = replace(trainer, precision=generating_precision(trainer.precision, trainer.accelerator))
    settings = replace(settings, trainer=trainer)
    return launch(trainer, partial(_work, settings=settings, results=results, entrants=entrants, stages=stages))


def _work(
    fabric: Fabric, settings: EvaluationSettings, results: Results, entrants: Entrants, stages: Collection[str]
) -> list[str]:
    failed: dict[str, str] = {}
    with ExitStack() as held:
        # All processes learn that the folder is in use: one that ended alone would leave the others waiting for it.
        on_first(fabric, lambda: held.enter_context(folder_lock(results.root)))
        on_first(fabric, partial(_plan, settings, results, entrants))
        nobody = results.nobody if settings.protocol.nobody is not None else None
        if "generate" in stages:
            _generate_all(fabric, settings, results, _generators(fabric, settings, results, entrants), failed)
            _take_in_all(fabric, results, entrants, failed)
            if nobody:
                _generate_all(fabric, settings, nobody, _adapters(fabric, settings, nobody, entrants), failed)
        if "score" in stages:
            _score_all(fabric, settings, results, entrants.labels, failed)
            if nobody:
                _score_all(fabric, settings, nobody, set(), failed)
    return [f"{label}: {message}" for label, message in failed.items()]


def _generate_all(
    fabric: Fabric,
    settings: EvaluationSettings,
    results: Results,
    generators: list[tuple[Entry, Callable[[], Generator]]],
    failed: dict[str, str],
) -> None:
    protocol = results.protocol()
    for entry, make_generator in generators:
        with _set_aside(fabric, entry.label, entry.kind, failed):
            generated = generate(
                fabric,
                protocol,
                entry,
                results.entry(entry.label),
                make_generator,
                settings.batch_size,
                settings.trainer.precision,
                settings.compile and not entry.lora,
            )
            _say(
                fabric, f"{entry.label}: {generated} images generated, {len(protocol.requests) - generated} were there"
            )


def _take_in_all(fabric: Fabric, results: Results, entrants: Entrants, failed: dict[str, str]) -> None:
    for one in entrants.images:
        with _set_aside(fabric, one.label, one.kind, failed):
            taken = one.take_in(fabric, results)
            there = len(one.match(results.protocol()).files) - taken
            _say(fabric, f"{one.label}: {taken} images taken in, {there} were there")


def _score_all(
    fabric: Fabric, settings: EvaluationSettings, results: Results, labels: set[str], failed: dict[str, str]
) -> None:
    """Score what is generated. An entry that was not asked for now by ``labels`` is left out where some of its images
    are missing."""
    protocol = results.protocol()
    named = labels - failed.keys()
    entries = results.entries()
    if unknown := sorted(named - {entry.label for entry in entries}):
        raise LikenessError(f"nothing is generated of {', '.join(unknown)}: run `--stage generate` first")
    judges = together(fabric, partial(load_judges, settings.judges, fabric.device))
    for entry in entries:
        folder, planned = results.entry(entry.label), entry.requests(protocol)
        generated = sum(folder.image(request.id).is_file() for request in planned)
        if generated < len(planned) and not is_required(entry.kind) and entry.label not in named:
            _say(fabric, f"left out {entry.label}: {generated} of {len(planned)} images are generated")
            continue
        with _set_aside(fabric, entry.label, entry.kind, failed):
            scored = score(fabric, results, entry, judges, settings.batch_size)
            _say(fabric, f"{entry.label}: {scored} images scored, {len(planned) - scored} were there")
    on_first(fabric, partial(calibrate, results, judges, settings.batch_size))


@contextmanager
def _set_aside(fabric: Fabric, label: str, kind: str, failed: dict[str, str]) -> Iterator[None]:
    """Note the failure of an entry, which costs the others nothing. Without floor and ceiling there is no table."""
    try:
        yield
    except LikenessError as error:
        if is_required(kind):
            raise
        failed[label] = str(error)
        _say(fabric, f"left out {label}: {error}")


def _plan(settings: EvaluationSettings, results: Results, entrants: Entrants) -> None:
    for note in make_plan(settings, results, entrants):
        print(f"note: {note}")
    print(f"plan: {len(results.protocol().requests)} images per entry, listed in {results.root / REQUESTS}")


def _generators(
    fabric: Fabric, settings: EvaluationSettings, results: Results, entrants: Entrants
) -> list[tuple[Entry, Callable[[], Generator]]]:
    """Every entry to generate, with what makes its generator when images are missing."""
    protocol, wanted, precision = results.protocol(), settings.protocol, settings.trainer.precision
    backbone = wanted.backbone

    def real() -> RealPhotoGenerator:
        side = photo_side(protocol)
        subjects = load_subjects(wanted.dataset, wanted.subjects, side, wanted.faceless, wanted.references)
        return RealPhotoGenerator(protocol, load_galleries(results.galleries, tuple(protocol.subjects)), subjects)

    ceiling = (Entry(CEILING.label, CEILING.kind), partial(together, fabric, real))
    if backbone is None:
        return [ceiling]

    def reconstruction() -> Generator:
        return ReconstructionGenerator(fabric, real(), load_backbone(backbone), precision)

    def model(
        make_module: Callable[[], PersonalisationModule],
        features: Settings,
        nouns: Mapping[str, str] | None = None,
        compiled: bool = settings.compile,
    ) -> Generator:
        photos = {s: list(map(image_bytes, results.references(s))) for s in protocol.subjects}
        return ModelGenerator(fabric, protocol, photos, backbone, make_module, features, precision, nouns, compiled)

    methods = [
        (one.entry, partial(model, partial(one.run.load, backbone), trained_features(one.run))) for one in entrants.runs
    ]
    loras = [
        # peft changes the layers for every subject: what is compiled would be compiled again each time.
        (
            one.entry(protocol),
            partial(
                model, partial(LorasOn, backbone, one.folder, one.words(protocol), one.strength), {}, compiled=False
            ),
        )
        for one in entrants.loras
    ]
    base_model, told = partial(PromptOnly, backbone), read_described(results)
    described = [(described_entry(told), partial(model, base_model, {}, told))] if told else []
    return [
        (Entry(FLOOR.label, FLOOR.kind), partial(model, base_model, {})),
        ceiling,
        (Entry(RECONSTRUCTION.label, RECONSTRUCTION.kind), partial(together, fabric, reconstruction)),
        *described,
        *methods,
        *loras,
    ]


def _adapters(
    fabric: Fabric, settings: EvaluationSettings, nobody: Results, entrants: Entrants
) -> list[tuple[Entry, Callable[[], Generator]]]:
    """Those of them that a prompt without a subject is for: the base model, and every training at its own setting."""
    every = _generators(fabric, settings, nobody, entrants)
    return [one for one in every if not shows_photo(one[0].kind) and training_of(one[0].label) == one[0].label]


def _say(fabric: Fabric, text: str) -> None:
    if fabric.global_rank == 0:
        print(text)

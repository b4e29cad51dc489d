"""The plan: everything that is decided, and everything that can be found wrong, before the first image is generated."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from contracts.entries import parse_named_folder
from contracts.errors import LikenessError
from contracts.files import write_json
from contracts.prompts import further_subjects, plain_prompt
from contracts.protocol import Protocol
from contracts.settings import EvaluationSettings
from datamodules.subjects import load_subjects, photos_hash
from leaderboard.plan.checks import (
    check_photos,
    check_prompts,
    check_references,
    check_run,
    check_settings,
    load_base_tokenizer,
)
from leaderboard.plan.prompts import read_prompts
from leaderboard.results.costs import check_costs
from leaderboard.results.folder import Entry, Results
from leaderboard.results.image_files import write_image
from leaderboard.score.scoring import load_judges
from leaderboard.verify import source_fingerprints
from lightning_modules.run import Run
from metrics.card import MetricCard, versions
from metrics.derived import derived_cards
from metrics.gallery import load_galleries, save_galleries
from metrics.judges import Judges, make_galleries
from metrics.registry import list_cards
from networks.backbone import backbone_fingerprint

FLOOR = Entry("prompt-only", "floor")
CEILING = Entry("real-photo", "ceiling")


@dataclass(frozen=True)
class RunEntry:
    """A run that takes part as ``entry``."""

    entry: Entry
    run: Run


def find_runs(arguments: Sequence[str]) -> list[RunEntry]:
    """Runs given as ``FOLDER`` (the label is the folder's name) or ``LABEL=FOLDER``, see
    :func:`contracts.entries.parse_named_folder`. With ``@STEP`` it is the adapter that the run kept of that step.

    Raises:
        LikenessError: a folder is no run, a file of it is damaged, or a label is taken or not usable as a file name.
    """
    found: list[RunEntry] = []
    for argument in arguments:
        named = parse_named_folder(argument, "--runs", steps=True)
        label, folder = named.label, named.path
        if label in {FLOOR.label, CEILING.label, *(other.entry.label for other in found)}:
            raise LikenessError(f"--runs: label {label!r} is taken: give this run another one with LABEL={folder}")
        run = Run(folder, named.step)
        if not run.adapter_file.is_file():
            raise LikenessError(f"--runs: {_no_adapter(run, named.step)}")
        check_costs(run.manifest, run.manifest_file)
        manifest = run.manifest if named.step is None else {**run.manifest, "kept": {"step": named.step}}
        place = str(folder) if named.step is None else f"{folder}@{named.step}"
        entry = Entry(label, "method", run.adapter_sha256, manifest, place, settings=run.settings_hash)
        found.append(RunEntry(entry, run))
    return found


def _no_adapter(run: Run, step: int | None) -> str:
    what = "is no finished run: it has no adapter.safetensors" if step is None else f"has no adapter of step {step}"
    if not run.folder.is_dir():
        return f"there is no folder {str(run.folder)!r}"
    if not (steps := run.adapter_steps()):
        return f"{run.folder} {what}"
    return f"{run.folder} {what}; it kept those of steps {', '.join(map(str, steps))}: {run.folder}@{steps[-1]}"


def make_plan(settings: EvaluationSettings, results: Results, runs: Sequence[RunEntry]) -> list[str]:
    """Write protocol, cards, galleries and reference photos, unless the folder has them already.

    Returns:
        Notes for the user, one line each.

    Raises:
        LikenessError: a photo, a prompt, a setting or a run cannot be used, or the folder holds another protocol.
            Nothing was written then.
    """
    wanted = settings.protocol
    check_settings(settings)
    prompts = read_prompts(wanted.prompts)
    judges = load_judges(settings.judges)
    subjects = load_subjects(wanted.dataset, wanted.subjects, wanted.resolution)
    protocol = Protocol(
        subjects={subject.id: subject.noun for subject in subjects},
        prompts=prompts,
        samples=wanted.samples,
        sampler=wanted.sampler,
        steps=wanted.steps,
        guidance=wanted.guidance,
        resolution=wanted.resolution,
        seed=wanted.seed,
        backbone=backbone_fingerprint(wanted.backbone),
        photos=photos_hash(subjects),
        metrics={},
        limit=settings.limit,
    )
    cards = list_cards(settings.judges, protocol.samples, len(protocol.requests))
    protocol = replace(protocol, metrics=versions(cards))
    results.check(protocol)
    tokenizer = load_base_tokenizer(wanted)
    check_prompts(protocol, wanted, tokenizer)
    for one in runs:
        check_run(one.run, protocol, wanted, tokenizer)
        generated = all(results.entry(one.entry.label).image(request.id).is_file() for request in protocol.requests)
        if not generated:
            check_references(one.run, subjects, wanted.backbone)
    if not results.cards.is_file():  # written last
        seen = {subject.id: judges.observe(subject.photos) for subject in subjects}
        check_photos(subjects, seen)
        galleries = make_galleries(subjects, seen)
        results.write_protocol(protocol)
        for s in subjects:
            write_image(results.reference(s.id), s.cut_out, {"photo": "reference", "subject": s.id})
        save_galleries(results.galleries, galleries, protocol.hash)
        write_json(results.sources, source_fingerprints(settings))
        write_json(results.cards, [card.to_json() for card in cards])
    return _notes(results, protocol, judges)


def planned_cards(settings: EvaluationSettings) -> list[MetricCard]:
    """The cards of every column that an evaluation with these settings would have. No data is looked at: where
    ``protocol.subjects`` is a number, the data may have fewer."""
    wanted = settings.protocol
    subjects = wanted.subjects if isinstance(wanted.subjects, int) else len(set(wanted.subjects))
    asked_of = [subjects - len(further_subjects(prompt.text)) for prompt in read_prompts(wanted.prompts)]
    images = sum(asked_of) * wanted.samples
    measured = list_cards(settings.judges, wanted.samples, min(images, settings.limit or images))
    return [*derived_cards({card.name: card for card in measured}), *measured]


def _notes(results: Results, protocol: Protocol, judges: Judges) -> list[str]:
    notes = []
    galleries = load_galleries(results.galleries, tuple(protocol.subjects))
    photos = sum(len(gallery.held_out["faces"]) for gallery in galleries.values())
    faceless = photos - sum(len(gallery.usable) for gallery in galleries.values())
    if faceless:
        notes.append(f"{faceless} of {photos} held-out photos show no face and are left out")
    objects = sorted({protocol.subjects[name] for name, gallery in galleries.items() if not gallery.has_face})
    if objects:
        notes.append(f"no photo of class {', '.join(objects)} shows a face: identity is not measured for them")
    texts = sorted({plain_prompt(r.prompt, r.subject, protocol.subjects) for r in protocol.requests})
    _, cut = judges.clip.text_features(texts)
    too_long = sum(tokens > 0 for tokens in cut)
    if too_long:
        notes.append(f"{too_long} of {len(texts)} prompts are longer than the CLIP judge reads and are cut")
    classes = Counter(prompt.prompt_class for prompt in protocol.prompts)
    if len(set(classes.values())) > 1:
        spread = ", ".join(f"{count} {name}" for name, count in classes.items())
        notes.append(f"prompt classes weigh unequally in the means over images ({spread}): read the values by class")
    return notes

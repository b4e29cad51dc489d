"""The plan: everything that is decided, and everything that can be found wrong, before the first image is generated."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from contracts.errors import Problems
from contracts.files import write_json
from contracts.prompts import further_subjects, plain_prompt
from contracts.protocol import Protocol
from contracts.settings import EvaluationSettings, ProtocolSettings
from datamodules.subjects import load_subjects, photos_hash
from leaderboard.images.folder import some
from leaderboard.images.requests_file import NAME as REQUESTS
from leaderboard.images.requests_file import write_requests
from leaderboard.images.taking import ImagesEntry
from leaderboard.plan.checks import (
    check_pairs,
    check_photos,
    check_prompts,
    check_references,
    check_run,
    load_base_tokenizer,
)
from leaderboard.plan.described import check_described, described_nouns, plan_described
from leaderboard.plan.entries import RunEntry
from leaderboard.plan.missing import Entrants
from leaderboard.plan.nobody import plan_nobody
from leaderboard.plan.photos import notes_on_photos, with_cautions
from leaderboard.plan.prompts import prompts_of
from leaderboard.results.folder import Results
from leaderboard.results.image_files import ImageWriter
from leaderboard.results.trained_photos import check_held_out, notes_on_photos_seen, trained_on
from leaderboard.score.scoring import load_judges
from leaderboard.verify import source_fingerprints
from metrics.base import NEEDS, PAIR_NEEDS, Kind
from metrics.card import MetricCard, versions
from metrics.derived import all_cards
from metrics.gallery import SubjectPhotos, load_galleries, save_galleries, unknown_factors
from metrics.judges import Judges, make_galleries
from metrics.registry import list_cards
from networks.backbone import backbone_fingerprint, empty_backbone
from networks.fingerprints import resolve_source


def make_plan(settings: EvaluationSettings, results: Results, entrants: Entrants) -> list[str]:
    """Write protocol, requests, cards, galleries and reference photos, unless the folder has them already.

    Returns:
        Notes for the user, one line each.

    Raises:
        LikenessError: a photo, a prompt, a run or a folder of images cannot be used, or the results are of another
            protocol. Nothing was written then.
    """
    wanted = settings.protocol
    judges = load_judges(settings.judges)
    subjects = load_subjects(wanted.dataset, wanted.subjects, wanted.resolution, wanted.faceless, wanted.references)
    nouns = {subject.id: subject.noun for subject in subjects}
    protocol = Protocol(
        subjects=nouns,
        prompts=prompts_of(wanted, nouns.values()),
        samples=wanted.samples,
        sampler=wanted.sampler,
        steps=wanted.steps,
        guidance=wanted.guidance,
        resolution=wanted.resolution,
        seed=wanted.seed,
        backbone=None if wanted.backbone is None else backbone_fingerprint(wanted.backbone),
        photos=photos_hash(subjects),
        metrics={},
        negative_prompt=wanted.negative_prompt or None,
        limit=settings.limit,
        references=wanted.references if wanted.references > 1 else None,
        reference_tokens=wanted.reference_tokens if wanted.references > 1 else None,
    )
    kinds: set[Kind] = {"people" if subject.has_face else "objects" for subject in subjects}
    check_pairs(protocol, subjects)
    given = PAIR_NEEDS if protocol.of_pairs else NEEDS - unknown_factors(subjects)
    cards = list_cards(settings.judges, protocol.samples, len(protocol.requests), given, kinds)
    protocol = replace(protocol, metrics=versions(cards))
    results.check(protocol)
    described = {} if wanted.backbone is None else described_nouns(subjects)
    check_described(results, described)
    problems = Problems()
    problems.attempt(partial(_check_generated, wanted, results, protocol, subjects, entrants))
    notes = [
        note
        for one in entrants.images
        for note in problems.attempt(partial(_notes_on_images, one, protocol, results)) or []
    ]
    problems.tell()
    if not results.cards.is_file():  # written last
        seen = {subject.id: judges.observe_photos(subject) for subject in subjects}
        check_photos(subjects, seen)
        galleries = make_galleries(subjects, seen, {s.id: judges.observe_further(s) for s in subjects if s.further})
        results.write_protocol(protocol)
        with ImageWriter() as writer:
            for s in subjects:
                for number, cut_out in enumerate((s.cut_out, *s.further)):
                    writer.write(results.reference(s.id, number), cut_out, {"photo": "reference", "subject": s.id})
        save_galleries(results.galleries, galleries, protocol.hash)
        write_json(results.sources, source_fingerprints(settings))
        write_json(results.cards, [card.to_json() for card in with_cautions(cards, galleries)])
    if not (results.root / REQUESTS).is_file():
        write_requests(results.root, protocol)
    plan_nobody(settings, results, protocol)
    if wanted.backbone is not None:
        notes += plan_described(results, protocol, subjects, described, wanted.backbone)
    for one in entrants.runs:
        notes += notes_on_photos_seen(one.entry.label, trained_on(one.run.manifest, one.run.manifest_file), protocol)
    for lora in (one for one in entrants.loras if one.as_trained):
        notes += lora.notes(protocol, subjects, results)
    return [*_notes(results, protocol, judges), *_notes_on_training(entrants.runs, wanted.resolution), *notes]


def _check_generated(
    wanted: ProtocolSettings,
    results: Results,
    protocol: Protocol,
    subjects: Sequence[SubjectPhotos],
    entrants: Entrants,
) -> None:
    """The prompts must be fit for the base model, and each run and LoRA for the protocol; what is wrong is told in one
    list."""
    tokenizer = None if wanted.backbone is None else load_base_tokenizer(wanted.backbone)
    check_prompts(protocol, wanted, tokenizer)
    if wanted.backbone is None or tokenizer is None:
        return
    problems = Problems()
    for one in entrants.runs:
        folder = results.entry(one.entry.label)
        problems.attempt(partial(check_run, one.run, protocol, wanted, tokenizer))
        learnt, way_out = trained_on(one.run.manifest, one.run.manifest_file), "enrol with the protocol's references"
        problems.attempt(partial(check_held_out, learnt, subjects, f"--runs: {one.run}", way_out))
        if not all(folder.image(request.id).is_file() for request in protocol.requests):
            problems.attempt(partial(check_references, one.run, subjects, wanted.backbone))
    if entrants.loras:
        base = empty_backbone(resolve_source(wanted.backbone, pipeline=True))
        for lora in (one for one in entrants.loras if one.as_trained):
            problems.attempt(partial(lora.check, protocol, subjects, base, tokenizer))
    problems.tell()


def _notes_on_images(one: ImagesEntry, protocol: Protocol, results: Results) -> list[str]:
    """What to know of a folder of images; superfluous files are named here, and counted on the board."""
    facts = one.entry(protocol, results).images
    superfluous = one.match(protocol).superfluous
    named = [f"{one.folder.folder} also holds {some(superfluous)}"] if superfluous else []
    return [*(facts.notes(one.label, len(protocol.requests), protocol.resolution) if facts else []), *named]


def planned_cards(settings: EvaluationSettings) -> list[MetricCard]:
    """The cards of every column that an evaluation with these settings may have.

    No data is looked at where the settings say how many images there are. Then, where ``protocol.subjects`` is a
    number, the data may have fewer subjects, and they may be people, objects, or both, and their
    backgrounds and poses may not be known.
    """
    wanted, prompts = settings.protocol, prompts_of(settings.protocol)
    if wanted.subjects is None or any(prompt.nouns for prompt in prompts):
        subjects = load_subjects(wanted.dataset, wanted.subjects, wanted.resolution, wanted.faceless)
        prompts = prompts_of(wanted, [subject.noun for subject in subjects])
        asked_of = [sum(prompt.is_for(s.id, s.noun) for s in subjects) for prompt in prompts]
    else:
        many = wanted.subjects if isinstance(wanted.subjects, int) else len(set(wanted.subjects))
        asked_of = [many - len(further_subjects(prompt.text)) for prompt in prompts]
    images = sum(asked_of) * wanted.samples
    given = PAIR_NEEDS if any(prompt.of_two for prompt in prompts) else NEEDS
    measured = list_cards(settings.judges, wanted.samples, min(images, settings.limit or images), given)
    return list(all_cards({card.name: card for card in measured}).values())


def _notes_on_training(runs: Sequence[RunEntry], resolution: int) -> list[str]:
    """Which runs were trained at another size than they generate at."""
    sides = {one.entry.label: one.run.data.get("resolution", resolution) for one in runs}
    return [
        f"{label} was trained at {side} pixels, the protocol generates {resolution}"
        for label, side in sides.items()
        if side != resolution
    ]


def _notes(results: Results, protocol: Protocol, judges: Judges) -> list[str]:
    notes = list(notes_on_photos(protocol, load_galleries(results.galleries, tuple(protocol.subjects))))
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

"""The plan: everything that is decided, and everything that can be found wrong, before the first image is drawn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from transformers import CLIPTokenizer

from contracts.errors import LikenessError
from contracts.files import write_json
from contracts.prompts import PLACEHOLDER, further_subjects, plain_prompt, plain_text, spoken
from contracts.protocol import Protocol
from contracts.settings import EvaluationSettings, ProtocolSettings
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from datamodules.requests import reference_name
from datamodules.subjects import load_subjects, photos_hash
from leaderboard.generate.generators import trained_features
from leaderboard.plan.entries import RunEntry
from leaderboard.plan.prompts import read_prompts
from leaderboard.results.folder import Results
from leaderboard.results.galleries import load_galleries, save_galleries
from leaderboard.results.image_files import encode_picture, write_picture
from leaderboard.score.scoring import load_judges
from leaderboard.verify import source_fingerprints
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from metrics.card import versions
from metrics.gallery import SubjectPhotos, classes_with_faces, make_galleries
from metrics.judges import Judges, Observation
from metrics.registry import list_cards
from networks.backbone import backbone_fingerprint
from networks.fingerprints import resolve_source
from networks.pretrained import UNREADABLE, first_line, load_tokenizer
from networks.sampler import SamplingSettings
from networks.subject_tensors import missing_subjects, subjects_of


def make_plan(settings: EvaluationSettings, results: Results, runs: Sequence[RunEntry]) -> list[str]:
    """Write protocol, cards, galleries and reference photos, unless the folder has them already.

    Returns:
        Notes for the user, one line each.

    Raises:
        LikenessError: a photo, a prompt, a setting or a run cannot be used, or the folder holds another protocol.
            Nothing was written then.
    """
    wanted = settings.protocol
    _check(settings)
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
    tokenizer = _tokenizer(wanted)
    _check_prompts(protocol, wanted, tokenizer)
    for one in runs:
        _check_run(one.run, protocol, wanted, tokenizer)
        drawn = all(results.entry(one.entry.label).image(request.id).is_file() for request in protocol.requests)
        if not drawn:
            _check_references(one.run, subjects, wanted.backbone)
    if not results.cards.is_file():  # written last
        seen = {subject.id: judges.observe(subject.photos) for subject in subjects}
        check_photos(subjects, seen)
        galleries = make_galleries(subjects, seen)
        results.write_protocol(protocol)
        for s in subjects:
            write_picture(results.reference(s.id), s.cut_out, {"photo": "reference", "subject": s.id})
        save_galleries(results.galleries, galleries, protocol.hash)
        write_json(results.sources, source_fingerprints(settings))
        write_json(results.cards, [card.to_json() for card in cards])
    return _notes(results, protocol, judges)


def _check(settings: EvaluationSettings) -> None:
    wanted: ProtocolSettings = settings.protocol
    SamplingSettings(wanted.sampler, wanted.steps, wanted.guidance)
    for name in ("resolution", "samples"):
        if getattr(wanted, name) < 1:
            raise LikenessError(f"protocol.{name} is {getattr(wanted, name)}, it must be at least 1")
    if settings.batch_size < 1:
        raise LikenessError(f"batch_size is {settings.batch_size}, it must be at least 1")
    if settings.limit is not None and settings.limit < 1:
        raise LikenessError(f"--limit is {settings.limit}, it must be at least 1")


def _tokenizer(wanted: ProtocolSettings) -> CLIPTokenizer:
    try:
        return load_tokenizer(resolve_source(wanted.backbone), "tokenizer")
    except UNREADABLE as error:
        raise LikenessError(f"protocol.backbone: {wanted.backbone!r} is not readable: {first_line(error)}") from None


def _check_prompts(protocol: Protocol, wanted: ProtocolSettings, tokenizer: CLIPTokenizer) -> None:
    """Every placeholder must name a subject, and the own one before the base model stops to read: behind that it is
    silently left out of the image."""
    for prompt in protocol.prompts:
        for subject in protocol.subjects:
            try:
                spoken(prompt.text, subject, protocol.subjects)
            except LikenessError as error:
                raise LikenessError(f"{wanted.prompts}: {error}") from None
        if set(protocol.subjects) <= further_subjects(prompt.text):
            raise LikenessError(
                f"{wanted.prompts}: prompt {prompt.id} names all of protocol.subjects ({', '.join(protocol.subjects)}) "
                "and is drawn for none of them: take more subjects"
            )
    read = tokenizer.model_max_length - 2  # between start and end
    for prompt in protocol.prompts:
        before = plain_text(prompt.text.partition(PLACEHOLDER)[0], protocol.subjects)
        for noun in set(protocol.subjects.values()):
            last = len(tokenizer(before + noun, add_special_tokens=False, verbose=False).input_ids)
            if last > read:
                raise LikenessError(
                    f"{wanted.prompts}: {PLACEHOLDER} of prompt {prompt.id} is token {last}, behind the {read} that "
                    f"the base model reads: name the subject earlier"
                )


def _check_run(run: Run, protocol: Protocol, wanted: ProtocolSettings, tokenizer: CLIPTokenizer) -> None:
    tensors, metadata = run.adapter()
    if metadata["backbone"] != protocol.backbone:
        raise LikenessError(
            f"--runs: {run.folder} was trained on base model {metadata['backbone'][:12]}, "
            f"protocol.backbone is {protocol.backbone[:12]}"
        )
    enrolled = subjects_of(metadata)
    if enrolled is None:
        return
    if missing := sorted(set(protocol.subjects) - enrolled.keys()):
        raise LikenessError(f"--runs: {missing_subjects(missing, sorted(enrolled), str(run.folder))}")
    if not issubclass(run.method, PerSubjectModule):
        return
    try:
        run.method.check_prompts(protocol.requests, tensors, metadata, tokenizer)
    except LikenessError as error:
        raise LikenessError(f"--runs: {run.folder} cannot draw all of {wanted.prompts}: {error}") from None


def _check_references(run: Run, subjects: Sequence[SubjectPhotos], backbone: str) -> None:
    """The features that the method reads must be able to read every reference. Where one is of aligned faces, the
    detector of the training must find exactly one face."""
    context = EncoderContext(backbone, len(subjects[0].reference))
    features = make_features(run.method.needs, trained_features(run), context).values()
    for subject in subjects:
        data, name = encode_picture(subject.cut_out, {}), reference_name(subject.id)
        try:
            for feature in features:
                feature.check(feature.crop.of_file(data, name, context.resolution))
        except LikenessError as error:
            raise LikenessError(f"--runs: {run.folder} cannot draw all subjects: {error}") from None


def check_photos(subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]) -> None:
    """A person's reference must show a face, and two held-out photos: the ceiling judges one against the others.

    Objects need no face: those of a class none of whose photos shows one.
    """
    faced = classes_with_faces(subjects, seen)
    for subject in subjects:
        found = seen[subject.id].judged.found
        if subject.noun not in faced:
            if (count := len(subject.held_out)) < 2:
                raise LikenessError(
                    f"subject {subject.id} has {count} held-out photos, two are needed: leave the subject out"
                )
        elif not found[0]:
            raise LikenessError(f"the reference photo of subject {subject.id} shows no face: leave the subject out")
        elif found[1:].sum() < 2:
            raise LikenessError(
                f"subject {subject.id} has {found[1:].sum()} held-out photos with a face, two are needed: "
                "leave the subject out"
            )


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

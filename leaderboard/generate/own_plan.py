"""What one run is to generate for ``generate.py``, and everything that can be found wrong before it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from contracts.errors import LikenessError
from contracts.prompts import further_subjects
from contracts.protocol import Prompt, Protocol
from contracts.records import Request
from contracts.settings import GenerationSettings, ProtocolSettings
from datamodules.features.base import EncoderContext
from datamodules.features.cache import content_key
from datamodules.features.registry import Settings, make_features
from leaderboard.generate.enrolment import SubjectRun
from leaderboard.generate.generation import how_generated, trained_features
from leaderboard.generate.given_subjects import GivenPhoto, GivenSubject, first_of
from leaderboard.plan.checks import check_prompts, check_run, load_base_tokenizer
from leaderboard.plan.entries import RunEntry
from leaderboard.results.image_files import read_provenance
from lightning_modules.base import PersonalisationModule
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from networks.backbone import backbone_fingerprint, backbone_resolution
from networks.sampler import SamplingSettings
from networks.subject_tensors import subjects_of


@dataclass(frozen=True)
class RunPlan:
    """One run's part of what is asked for."""

    label: str
    run: Run
    backbone: str
    """Folder or hub name of the base model."""
    protocol: Protocol
    photos: Mapping[str, Sequence[GivenPhoto]]
    """The photos of each subject that the method reads, or, where it is optimised per subject, the first of them."""
    features: Settings
    """How the features that the method reads are made."""
    enrolments: Mapping[str, SubjectRun]
    """By subject, of those who are optimised for this command."""
    precision: str
    compiled: bool
    notes: tuple[str, ...]

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Every image to generate. The second subject of an image is whoever its prompt names as ``<ID>``."""
        return tuple(replace(r, beside=next(iter(further_subjects(r.prompt)), None)) for r in self.protocol.requests)

    def enrol(self, device: str) -> None:
        """Optimise whom the method does not know yet.

        Raises:
            LikenessError: a subject could not be enrolled.
        """
        for subject, enrolment in self.enrolments.items():
            if not enrolment.done:
                print(f"{self.label}: enrolling {subject}, {enrolment.steps} steps")
                enrolment.enrol(device)

    def module(self) -> PersonalisationModule:
        """The method, with everybody whom it is to generate."""
        module = self.run.load(self.backbone)
        for enrolment in self.enrolments.values():
            module.load_adapter(enrolment.enrolled.adapter_file)
        return module

    def provenance(self, request: Request) -> dict[str, object]:
        """What the image's file says of how it was made: everything that decides it."""
        who: dict[str, object] = {"request": request.id, "entry": self.label, "method": self.run.method.__name__}
        who |= self._who(request.subject)
        if request.beside is not None:
            second = {"subject": request.beside, **self._who(request.beside)}
            who |= {f"second_{name}": value for name, value in second.items()}
        if self.protocol.reference_tokens:
            who["reference_tokens"] = self.protocol.reference_tokens
        who |= {"settings": self.run.settings_hash, "precision": self.precision}
        who |= {"compiled": True} if self.compiled else {}
        return {**who, **how_generated(self.protocol, request)}

    def _who(self, subject: str) -> dict[str, object]:
        """What decides how a subject looks."""
        enrolment, who = self.enrolments.get(subject), dict[str, object]()
        who |= {"enrolment": enrolment.key} if enrolment else {"adapter": self.run.adapter_sha256}
        if self.run.method.needs:
            keys = [content_key(photo.data) for photo in self.photos[subject]]
            who |= {"reference": keys[0]} if len(keys) == 1 else {"references": keys}
        return who | {"noun": self.protocol.subjects[subject]}

    def file(self, output: Path, request: Request) -> Path:
        """Where the image of a request lies."""
        return output / "images" / self.label / f"{request.id}.png"

    def missing(self, output: Path) -> set[str]:
        """The requests whose image is not there.

        Raises:
            LikenessError: an image that is there was generated in another way.
        """
        missing = set()
        for request in self.requests:
            if not (path := self.file(output, request)).exists():
                missing.add(request.id)
            elif changed := _differences(read_provenance(path), self.provenance(request)):
                raise LikenessError(
                    f"{path} was not generated like this ({changed}): take another --output, or remove the file"
                )
        return missing


def plan_run(
    one: RunEntry, subjects: Sequence[GivenSubject], prompts: Sequence[Prompt], settings: GenerationSettings
) -> RunPlan:
    """Decide all and check it; no network of the method is loaded.

    Raises:
        LikenessError: the run, a photo, a prompt or a setting cannot be used.
    """
    changed = settings.arguments | ({} if settings.scale is None else {"scale": settings.scale})
    run = one.run.with_arguments(**changed) if changed else one.run
    backbone = settings.backbone or run.arguments.get("backbone")
    if not isinstance(backbone, str):
        raise LikenessError(f"--run: {run} names no base model: give --backbone")
    SamplingSettings(settings.sampler, settings.steps, settings.guidance, settings.negative_prompt or "")
    side, several = backbone_resolution(backbone), (settings.references or 1) > 1
    protocol = Protocol(
        subjects={subject.id: subject.noun for subject in subjects},
        prompts=tuple(prompts),
        samples=settings.samples,
        sampler=settings.sampler,
        steps=settings.steps,
        guidance=settings.guidance,
        resolution=side,
        seed=settings.seed,
        backbone=backbone_fingerprint(backbone, run.arguments.get("revision")),
        photos=content_key("".join(key for subject in subjects for key in subject.photo_keys(settings.references))),
        metrics={},
        negative_prompt=settings.negative_prompt or None,
        references=settings.references if several else None,
        reference_tokens=settings.reference_tokens if several and run.method.needs else None,
    )
    wanted = ProtocolSettings(prompts="--prompts", backbone=backbone, resolution=side)
    tokenizer = load_base_tokenizer(backbone)
    check_prompts(protocol, wanted, tokenizer)
    _check_subjects(run, prompts)
    enrolments = {}
    if issubclass(run.method, PerSubjectModule):
        known = subjects_of(run.adapter()[1]) or {}
        strangers = [subject for subject in subjects if subject.id not in known]
        enrolments = {s.id: SubjectRun(run, s, backbone, settings.enrol_steps, settings.references) for s in strangers}
    new = {subject: protocol.subjects[subject] for subject in enrolments}
    check_run(run, protocol, wanted, tokenizer, new, "--run")
    features = trained_features(run) if run.method.needs else {}
    photos, notes = _choose_photos(
        one.entry.label, run, features, subjects, EncoderContext(backbone, side), settings.references
    )
    for enrolment in enrolments.values():
        if not enrolment.done:
            used = enrolment.photos
            given = enrolment.subject.references(side, settings.references)
            unused = [photo for photo in given if photo not in used] if settings.references is None else []
            notes += [f"{one.entry.label} leaves out {photo.name}, which shows no face" for photo in unused]
    return RunPlan(
        label=one.entry.label,
        run=run,
        backbone=backbone,
        protocol=protocol,
        photos=photos,
        features=features,
        enrolments=enrolments,
        precision=settings.precision,
        compiled=settings.compile,
        notes=tuple(notes),
    )


def _check_subjects(run: Run, prompts: Sequence[Prompt]) -> None:
    """Raise LikenessError where a prompt names more subjects than the method can show in one image."""
    most = run.method.subjects_per_image
    for prompt in prompts:
        if (named := 1 + prompt.of_two + len(further_subjects(prompt.text))) > most:
            takes = f"{run.method.__name__} takes {most} {'subject' if most == 1 else 'subjects'} an image"
            raise LikenessError(
                f"--run: {run}: {takes}, {prompt.text!r} names {named}: leave the run or the prompt out"
            )


def _choose_photos(
    label: str,
    run: Run,
    settings: Settings,
    subjects: Sequence[GivenSubject],
    context: EncoderContext,
    count: int | None,
) -> tuple[dict[str, Sequence[GivenPhoto]], list[str]]:
    """Of each subject the first photos that the method's features can be made of, ``count`` or one of them, and a note
    where others are unused."""
    features = make_features(run.method.needs, settings, context).values()
    chosen, notes = dict[str, Sequence[GivenPhoto]](), []
    for subject in subjects:
        candidates, wrong, fitting = subject.references(context.resolution, count), list[str](), list[GivenPhoto]()
        for photo in candidates:
            try:
                for feature in features:
                    feature.check(feature.crop.of_file(photo.data, photo.name, context.resolution))
            except LikenessError as error:
                wrong.append(str(error))
            else:
                fitting.append(photo)
                if len(fitting) == (count or 1):
                    break
        if not fitting:
            others = f" ({len(wrong) - 1} more of its photos cannot be used either)" if len(wrong) > 1 else ""
            raise LikenessError(f"--run: {run} cannot generate {subject.id}: {wrong[0]}{others}")
        chosen[subject.id] = first_of(fitting, count if features else None, subject.id)
        if len(candidates) > len(fitting) and features:
            read = f"one photo of a subject: {fitting[0].name}"
            if len(fitting) > 1:
                read = f"{len(fitting)} of {len(candidates)} photos of a subject: {', '.join(p.name for p in fitting)}"
            notes.append(f"{label} reads {read}")
    return chosen, notes


def _differences(found: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """What two provenances differ in: short values as they were and are, else the names."""
    if not found:
        return "it does not say how it was"
    names = [name for name in wanted.keys() | found.keys() if found.get(name) != wanted.get(name)]

    def told(name: str) -> str:
        before, now = found.get(name), wanted.get(name)
        short = all(len(str(value)) < 32 for value in (before, now))
        return f"{name} {before}, now {now}" if short else f"another {name}"

    return ", ".join(told(name) for name in sorted(names))

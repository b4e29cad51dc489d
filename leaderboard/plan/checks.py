"""What can be found wrong before the first image is generated: in settings, prompts, runs and photos, and that a method
was made with one of its judges."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType

from huggingface_hub import snapshot_download
from transformers import CLIPTokenizer

from contracts.errors import LikenessError, Problems
from contracts.files import file_sha256
from contracts.prompts import OWN, PLACEHOLDER, further_subjects, plain_text, spoken
from contracts.protocol import Protocol
from contracts.settings import JudgeSettings, ProtocolSettings
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from datamodules.requests import reference_name
from leaderboard.generate.generation import trained_features
from leaderboard.images.folder import some
from leaderboard.results.image_files import encode_image
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from metrics.gallery import SubjectPhotos
from metrics.judges import Observation
from networks.face_files import recognises_faces
from networks.fingerprints import resolve_source
from networks.pretrained import UNREADABLE, first_line, load_tokenizer
from networks.subject_tensors import missing_subjects, subjects_of

_FACE_JUDGES = ("faces", "second_faces")
_FIND_ONLY = ("detector", "faces")
"""Keys of face packs that only find faces: what a pack holds to recognise them is not used there."""
_NETWORKS = (".onnx", ".safetensors")
NOBODY: Mapping[str, str] = MappingProxyType({})


def load_base_tokenizer(backbone: str) -> CLIPTokenizer:
    """The tokenizer of protocol.backbone. Raises LikenessError if the folder is not readable."""
    try:
        return load_tokenizer(resolve_source(backbone, pipeline=True), "tokenizer")
    except UNREADABLE as error:
        raise LikenessError(f"protocol.backbone: {backbone!r} is not readable: {first_line(error)}") from None


def check_prompts(protocol: Protocol, wanted: ProtocolSettings, tokenizer: CLIPTokenizer | None) -> None:
    """Every placeholder must name a subject, and the own one before the base model stops to read: behind that it is
    silently left out of the image.

    Args:
        tokenizer: The base model's; ``None`` without one, where nobody knows who stops to read where.
    """
    for prompt in protocol.prompts:
        for subject in protocol.subjects:
            try:
                spoken(prompt.text, subject, protocol.subjects)
            except LikenessError as error:
                raise LikenessError(f"{wanted.prompts}: {error}") from None
        if set(protocol.subjects) <= further_subjects(prompt.text):
            raise LikenessError(
                f"{wanted.prompts}: prompt {prompt.id} names all of protocol.subjects ({', '.join(protocol.subjects)}) "
                "and is generated for none of them: take more subjects"
            )
    if tokenizer is None:
        return
    read = tokenizer.model_max_length - 2  # between start and end
    for prompt in protocol.prompts:
        for noun in {noun for subject, noun in protocol.subjects.items() if prompt.is_for(subject, noun)}:
            before = plain_text(prompt.text.rpartition(PLACEHOLDER)[0], {**protocol.subjects, OWN: noun})
            last = len(tokenizer(before + noun, add_special_tokens=False, verbose=False).input_ids)
            if last > read:
                raise LikenessError(
                    f"{wanted.prompts}: {PLACEHOLDER} of prompt {prompt.id} is token {last}, behind the {read} that "
                    f"the base model reads: name the subject earlier"
                )


def check_run(
    run: Run,
    protocol: Protocol,
    wanted: ProtocolSettings,
    tokenizer: CLIPTokenizer,
    to_enrol: Mapping[str, str] = NOBODY,
    option: str = "--runs",
) -> None:
    """Raises LikenessError if `run` has another base model, or cannot generate a subject or prompt of the protocol.

    Args:
        to_enrol: Class noun by subject of those who will be enrolled before.
        option: The option that the run is given by, for errors.
    """
    tensors, metadata = run.adapter()
    if metadata["backbone"] != protocol.backbone:
        raise LikenessError(
            f"{option}: {run.folder} was trained on base model {metadata['backbone'][:12]}, "
            f"protocol.backbone is {(protocol.backbone or 'null')[:12]}"
        )
    if protocol.of_pairs and run.method.subjects_per_image < 2:
        raise LikenessError(
            f"{option}: {run.folder}: {run.method.__name__} takes one subject an image, those of {wanted.prompts} show "
            "two: leave it out"
        )
    enrolled = subjects_of(metadata)
    if enrolled is None:
        return
    enrolled = {**enrolled, **to_enrol}
    if missing := sorted(set(protocol.subjects) - enrolled.keys()):
        raise LikenessError(f"{option}: {missing_subjects(missing, sorted(enrolled), str(run.folder))}")
    if not issubclass(run.method, PerSubjectModule):
        return
    try:
        run.method.check_prompts(protocol.requests, tensors, {**metadata, "nouns": json.dumps(enrolled)}, tokenizer)
    except LikenessError as error:
        raise LikenessError(f"{option}: {run.folder} cannot generate all of {wanted.prompts}: {error}") from None


def check_references(run: Run, subjects: Sequence[SubjectPhotos], backbone: str) -> None:
    """The features that the method reads must be able to read every reference. Where one is of aligned faces, the
    detector of the training must find exactly one face."""
    context = EncoderContext(backbone, len(subjects[0].reference))
    features = make_features(run.method.needs, trained_features(run), context).values()
    for subject in subjects:
        files, name = (
            [encode_image(photo, {}) for photo in (subject.cut_out, *subject.further)],
            reference_name(subject.id),
        )
        try:
            for feature, data in product(features, files):
                feature.check(feature.crop.of_file(data, name, context.resolution))
        except LikenessError as error:
            raise LikenessError(f"--runs: {run.folder} cannot generate all subjects: {error}") from None


def check_pairs(protocol: Protocol, subjects: Sequence[SubjectPhotos]) -> None:
    """Two subjects in one image are told apart by their faces. Raises LikenessError that names those without one."""
    if protocol.of_pairs and (faceless := [subject.id for subject in subjects if not subject.has_face]):
        raise LikenessError(
            f"protocol.prompts are of two subjects, who are told apart by their faces: {some(faceless)} have none; "
            "name others in protocol.subjects"
        )


def check_photos(subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]) -> None:
    """A person's reference must show a face, and two held-out photos: the ceiling judges one against the others.

    Objects need no face: those that have none by the dataset (column `has_face`) or by protocol.faceless. Where a
    segmentation model looks for them, it must find them in as many. Raises LikenessError with
    a line for each subject that cannot be used.
    """
    problems = Problems()
    for subject in subjects:
        otherwise = "leave the subject out"
        if subject.has_face:
            shown, what = seen[subject.id].judged.found, "face"
            otherwise += f", or name {subject.noun} in protocol.faceless if that has no face"
        else:
            shown, what = seen[subject.id].shows_object, "object to judges.segmenter"
        if not shown[0]:
            problems.lines.append(f"the reference photo of subject {subject.id} shows no {what}: {otherwise}")
        elif (count := int(shown[1:].sum())) < 2:
            of = "" if shown.all() else f" with {'a' if subject.has_face else 'an'} {what}"
            problems.lines.append(f"subject {subject.id} has {count} held-out photos{of}, two are needed: {otherwise}")
    problems.tell()


def own_judges(run: Run, judges: JudgeSettings) -> dict[str, str]:
    """Configuration key of the method by judge, where both use the same network: ``{"clip": "data.image_encoder"}``.

    Such a method is fitted to what that network sees, and looks better than it is. Networks are the same where a file
    of the one has the content of a file of the other. Of a face pack only the recogniser counts, as a detector says
    nothing of whose face it finds.

    Raises:
        LikenessError: the run has no readable ``config.yaml``.
    """
    texts = [pair for part in ("model", "data") for pair in _texts(part, run.config.get(part))]
    found = {}
    for judge, source in judges.sources.items():
        for key, text in texts:
            apart = judge in _FACE_JUDGES and key.rpartition(".")[2] in _FIND_ONLY
            if not apart and _shared(judge, source, text):
                found[judge] = key.replace(".init_args", "")
                break
    return found


def _texts(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Every text of a part of a configuration, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(f"{key}.{name}", inner)


def _shared(judge: str, source: str, own: str) -> bool:
    """Whether a network of the judge in ``source`` is one in ``own`` too; other folders are told apart unread."""
    if source == own:
        return True
    return any(judge not in _FACE_JUDGES or recognises_faces(file) for file in _common(_local(source), _local(own)))


def _common(first: Path, second: Path) -> Iterator[Path]:
    """The network files of the first folder whose content a file of the second has, under any name."""
    others = _networks(second)
    for file in _networks(first):
        same_size = [other for other in others if other.stat().st_size == file.stat().st_size]
        if same_size and file_sha256(file) in map(file_sha256, same_size):
            yield file


def _local(source: str) -> Path:
    """Where a model given as a file, a folder or a hub name lies; nothing is fetched for the comparison."""
    path = Path(source)
    if path.exists() or source.count("/") != 1:
        return path
    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (OSError, ValueError):  # not on this machine, or no name of a model at all
        return path


def _networks(source: Path) -> list[Path]:
    files = source.iterdir() if source.is_dir() else [source]
    return [file for file in files if file.suffix in _NETWORKS and file.is_file()]

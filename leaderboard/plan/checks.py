"""What can be found wrong before the first image is generated: in settings, prompts, runs and photos, and that a method
was made with one of its judges."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import CLIPTokenizer

from contracts.errors import LikenessError
from contracts.files import file_sha256
from contracts.prompts import PLACEHOLDER, further_subjects, plain_text, spoken
from contracts.protocol import Protocol
from contracts.settings import EvaluationSettings, JudgeSettings, ProtocolSettings
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from datamodules.requests import reference_name
from leaderboard.generate.generation import trained_features
from leaderboard.results.image_files import encode_image
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from metrics.gallery import SubjectPhotos
from metrics.judges import Observation, classes_with_faces
from networks.face_analysis import recognises_faces
from networks.fingerprints import resolve_source
from networks.pretrained import UNREADABLE, first_line, load_tokenizer
from networks.sampler import SamplingSettings
from networks.subject_tensors import missing_subjects, subjects_of

_FACE_JUDGES = ("faces", "second_faces")
_FIND_ONLY = ("detector", "faces")
"""Keys of face packs that only find faces: what a pack holds to recognise them is not used there."""
_NETWORKS = (".onnx", ".safetensors")


def check_settings(settings: EvaluationSettings) -> None:
    """Raises LikenessError for a number below 1 or a sampler that does not exist."""
    wanted: ProtocolSettings = settings.protocol
    SamplingSettings(wanted.sampler, wanted.steps, wanted.guidance)
    for name, most in (("resolution", 2**14), ("samples", 10_000), ("steps", 10_000)):
        if not 1 <= (found := getattr(wanted, name)) <= most:
            raise LikenessError(f"protocol.{name} is {found}, it must be at least 1 and at most {most}")
    if settings.batch_size < 1:
        raise LikenessError(f"batch_size is {settings.batch_size}, it must be at least 1")
    if settings.limit is not None and settings.limit < 1:
        raise LikenessError(f"--limit is {settings.limit}, it must be at least 1")


def load_base_tokenizer(wanted: ProtocolSettings) -> CLIPTokenizer:
    """The tokenizer of protocol.backbone. Raises LikenessError if the folder is not readable."""
    try:
        return load_tokenizer(resolve_source(wanted.backbone, pipeline=True), "tokenizer")
    except UNREADABLE as error:
        raise LikenessError(f"protocol.backbone: {wanted.backbone!r} is not readable: {first_line(error)}") from None


def check_prompts(protocol: Protocol, wanted: ProtocolSettings, tokenizer: CLIPTokenizer) -> None:
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
                "and is generated for none of them: take more subjects"
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


def check_run(run: Run, protocol: Protocol, wanted: ProtocolSettings, tokenizer: CLIPTokenizer) -> None:
    """Raises LikenessError if `run` has another base model, or cannot generate a subject or prompt of the protocol."""
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
        raise LikenessError(f"--runs: {run.folder} cannot generate all of {wanted.prompts}: {error}") from None


def check_references(run: Run, subjects: Sequence[SubjectPhotos], backbone: str) -> None:
    """The features that the method reads must be able to read every reference. Where one is of aligned faces, the
    detector of the training must find exactly one face."""
    context = EncoderContext(backbone, len(subjects[0].reference))
    features = make_features(run.method.needs, trained_features(run), context).values()
    for subject in subjects:
        data, name = encode_image(subject.cut_out, {}), reference_name(subject.id)
        try:
            for feature in features:
                feature.check(feature.crop.of_file(data, name, context.resolution))
        except LikenessError as error:
            raise LikenessError(f"--runs: {run.folder} cannot generate all subjects: {error}") from None


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
    for judge, source in vars(judges).items():
        for key, text in texts:
            apart = judge in _FACE_JUDGES and key.rpartition(".")[2] in _FIND_ONLY
            if source and not apart and _shared(judge, source, text):
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

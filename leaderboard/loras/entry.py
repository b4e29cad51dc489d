"""A folder of LoRAs as an entry: it covers all subjects, fits base model and prompts, and saw no held-out photo."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm
from transformers import CLIPTokenizer

from contracts.errors import LikenessError, Problems
from contracts.files import file_sha256
from contracts.protocol import Protocol
from leaderboard.images.folder import some
from leaderboard.loras.folder import GivenLora, LoraFolder
from leaderboard.results.anchors import METHOD
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.names import point_name
from leaderboard.results.trained_photos import TRAINED_ON, Trained, check_held_out, notes_on_photos_seen
from metrics.gallery import SubjectPhotos
from networks.backbone import Backbone
from networks.lora_file import check_fit, numbers_in, read_lora
from networks.placeholders import check_worded

KNOB, AS_TRAINED = "scale", 1.0
"""What a sweep turns: the strength of the change, as ``cross_attention_kwargs`` of diffusers calls it."""


class LoraEntry:
    """A folder of LoRAs that takes part in an evaluation, at a ``strength`` where it is a point of a sweep."""

    def __init__(self, folder: LoraFolder, strength: float | None = None) -> None:
        self.folder = folder
        self._point = strength

    @property
    def strength(self) -> float:
        """By what the changes of the base model are multiplied."""
        return AS_TRAINED if self._point is None else self._point

    @property
    def as_trained(self) -> bool:
        """Whether it is the entry itself, and no further point of its sweep."""
        return self.strength == AS_TRAINED

    @property
    def label(self) -> str:
        """The entry's label."""
        return self.folder.label if self.as_trained else point_name(self.folder.label, self.strength)

    def points(self, values: Sequence[float]) -> "list[LoraEntry]":
        """The entry as a point of a sweep, and its other points: one for each of the values but its own.

        Raises:
            LikenessError: a value is below 0.
        """
        if (lowest := min(values)) < 0:
            raise LikenessError(
                f"{self.folder.folder}: {KNOB} cannot be {lowest:g}: a LoRA's strength is at least 0, the base model"
            )
        return [LoraEntry(self.folder, value) for value in (AS_TRAINED, *(v for v in values if v != AS_TRAINED))]

    def words(self, protocol: Protocol) -> dict[str, str]:
        """How prompts name each subject of the protocol."""
        return {subject: self.folder.loras[subject].words(noun) for subject, noun in protocol.subjects.items()}

    def entry(self, protocol: Protocol) -> Entry:
        """The entry that they make under a protocol whose subjects they cover."""
        loras = self._loras(protocol)
        manifest = {
            "method": "LoRA",
            "trainable_parameters": max(numbers_in(lora.place) for lora in loras.values()),
            **self.folder.manifest,
            "told": self.words(protocol),
            TRAINED_ON: {subject: lora.photos and list(lora.photos) for subject, lora in loras.items()},
        }
        return Entry(
            self.label,
            METHOD,
            self.folder.weights(list(loras), protocol.subjects),
            manifest,
            str(self.folder.folder),
            settings="" if self.as_trained else hashlib.sha256(f"{KNOB} {self.strength!r}".encode()).hexdigest(),
            lora=True,
            knob=None if self._point is None else {"name": KNOB, "value": self._point},
        )

    def check(
        self, protocol: Protocol, subjects: Sequence[SubjectPhotos], base: Backbone, tokenizer: CLIPTokenizer
    ) -> None:
        """Raise ``LikenessError``, with a line for each thing, where the folder cannot answer all of the protocol, or
        saw what it is judged against.

        Args:
            base: The base model's shapes.
            tokenizer: Its tokenizer.
        """
        if protocol.of_pairs:
            raise LikenessError(
                f"--lora: {self.folder.folder}: a LoRA takes one subject an image, protocol.prompts are of two: leave "
                "it out"
            )
        self.folder.check_covers(list(protocol.subjects))
        problems = Problems()
        where, way_out = f"--lora: {self.folder.folder}", "train without them, or leave it out"
        problems.attempt(partial(check_held_out, self._trained(protocol), subjects, where, way_out))
        for subject, lora in tqdm(self._loras(protocol).items(), f"check {self.label}", unit="LoRA", leave=False):
            words = lora.words(protocol.subjects[subject])
            prompts = {request.prompt for request in protocol.requests if request.subject == subject}
            problems.attempt(partial(_check_fit, lora, base, str(protocol.backbone)))
            problems.attempt(partial(check_trigger, lora, tokenizer))
            problems.attempt(partial(_check_prompts, sorted(prompts), words, tokenizer, where))
        problems.lines = list(dict.fromkeys(problems.lines))
        problems.tell()

    def notes(self, protocol: Protocol, subjects: Sequence[SubjectPhotos], results: Results) -> Iterator[str]:
        """What a reader should know of what they were trained on."""
        trained = self._trained(protocol)
        yield from notes_on_photos_seen(self.label, trained, protocol)
        strange = []
        for subject in subjects:
            known = {*subject.hashes.references, *map(file_sha256, _there(results.references(subject.id)))}
            strange += [subject.id] if set(trained.get(subject.id, ())) - known else []
        if strange:
            yield f"{self.label} was trained on photos of {some(strange)} that are none of the references"

    def _trained(self, protocol: Protocol) -> Trained:
        return {subject: lora.photos for subject, lora in self._loras(protocol).items() if lora.photos is not None}

    def _loras(self, protocol: Protocol) -> Mapping[str, GivenLora]:
        return {subject: self.folder.loras[subject] for subject in protocol.subjects}


def check_trigger(lora: GivenLora, tokenizer: CLIPTokenizer) -> None:
    """Raise ``LikenessError`` for a trigger word that the base model's tokenizer does not know: a new token, whose
    embedding is not in the LoRA, or letters that it has no token for."""
    for word in lora.trigger.split():
        ids = tokenizer(word, add_special_tokens=False, verbose=False).input_ids
        new_token = word.startswith("<") and word.endswith(">") and len(ids) != 1
        if not ids or new_token or tokenizer.unk_token_id in ids:
            raise LikenessError(
                f"--lora: {lora.place}: the trigger word {word!r} is not known to the base model's tokenizer: an "
                "embedding that was learnt for it is not read; train with a word that there is, such as sks"
            )


def _check_fit(lora: GivenLora, base: Backbone, fingerprint: str) -> None:
    try:
        check_fit(read_lora(lora.place), base, fingerprint, str(lora.place))
    except LikenessError as error:
        raise LikenessError(f"--lora: {error}") from error


def _check_prompts(prompts: Sequence[str], words: str, tokenizer: CLIPTokenizer, where: str) -> None:
    for prompt in prompts:
        try:
            check_worded(tokenizer, prompt, words)
        except LikenessError as error:
            raise LikenessError(f"{where} cannot generate all prompts: {error}") from None


def _there(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.is_file()]

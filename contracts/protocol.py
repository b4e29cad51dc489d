"""The protocol: a fixed list of requests with everything that decides what an image should show, and its hash."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property

from contracts.errors import LikenessError
from contracts.prompts import PLACEHOLDER, further_subjects, with_second
from contracts.records import Request
from contracts.settings import ReferenceTokens

MAX_REQUESTS = 10_000_000
"""More than anybody evaluates, and few enough to be held in memory."""
_SEVERAL = {"references", "reference_tokens"}
"""Fields that are left out where methods see one photo."""
_NAME = re.compile(r"[a-z0-9_-]+")
COPY_LIMIT = 0.5
"""Half-way from a picture as near to the reference as to other photos (0) to a copy of the reference (1)."""


@dataclass(frozen=True)
class Prompt:
    """One prompt; ``text`` holds the placeholder once, and may name further subjects as ``<ID>``; or it holds the
    placeholder twice, for two subjects of the protocol."""

    id: str
    prompt_class: str
    text: str
    nouns: tuple[str, ...] = ()
    """Class nouns of the subjects that it is for; empty for all."""

    @property
    def of_two(self) -> bool:
        """Whether an image is to show two of the protocol's subjects."""
        return self.text.count(PLACEHOLDER) == 2

    def is_for(self, subject: str, noun: str) -> bool:
        """Whether it is generated for a subject with this class noun: one whom it names beside the own subject would be
        in the image twice."""
        return subject not in further_subjects(self.text) and (not self.nouns or noun in self.nouns)

    def to_json(self) -> dict:
        """All fields, but for a prompt that is for all subjects no class nouns."""
        return {name: value for name, value in asdict(self).items() if name != "nouns" or value}

    @classmethod
    def from_json(cls, data: Mapping) -> "Prompt":
        """The inverse of :meth:`to_json`."""
        return cls(**{**data, "nouns": tuple(data.get("nouns", ()))})


@dataclass(frozen=True)
class Protocol:
    """What every entry of one leaderboard has in common.

    Two results compare only if their protocols have the same hash; it covers subjects and their photos, prompts,
    samples, sampler, base model, noise and judges.
    """

    subjects: Mapping[str, str]
    """Class noun by subject, in the order of the requests."""
    prompts: tuple[Prompt, ...]
    samples: int
    sampler: str
    steps: int
    guidance: float
    resolution: int
    """Side of an image in pixels."""
    seed: int
    backbone: str | None
    """Fingerprint of the base model; ``None`` where the images are made elsewhere, whatever by."""
    photos: str
    """SHA-256 over the pixels of every reference and held-out photo."""
    metrics: Mapping[str, str]
    """Version string by metric name; they hold the judges' fingerprints."""
    negative_prompt: str | None = None
    """What guidance leads away from; ``None`` is the empty text."""
    limit: int | None = None
    """Generate only so many images per entry, for a quick look; such a protocol has a hash of its own."""
    references: int | None = None
    """Photos of each subject that a method sees; ``None`` is one."""
    reference_tokens: ReferenceTokens | None = None
    """What encoders do with the tokens of several references; ``None`` where there is one."""
    copy_limit: float = COPY_LIMIT
    """An entry whose copy-paste lies above it copies its reference. One number for all boards: no setting changes it,
    and the hash covers it."""

    def __post_init__(self) -> None:
        if len(self.subjects) * len(self.prompts) * self.samples > MAX_REQUESTS:
            raise LikenessError(
                f"{len(self.subjects)} subjects x {len(self.prompts)} prompts x {self.samples} samples are more than "
                f"{MAX_REQUESTS:,} images: take fewer"
            )
        for prompt in self.prompts:
            if prompt.of_two and len(found := self._asked_of(prompt)) < 2:
                raise LikenessError(
                    f"prompt {prompt.id} is of two subjects and for {len(found)} of protocol.subjects: take more"
                )

    @property
    def of_pairs(self) -> bool:
        """Whether images are to show two subjects."""
        return any(prompt.of_two for prompt in self.prompts)

    def _asked_of(self, prompt: Prompt) -> list[str]:
        return [subject for subject, noun in self.subjects.items() if prompt.is_for(subject, noun)]

    def _beside(self, number: int) -> dict[str, str]:
        """Who stands beside each subject in the images of the prompt of this number.

        It is somebody else in every prompt, for as long as there is anybody, and each subject is as often the second as
        the first.
        """
        asked_of = self._asked_of(self.prompts[number])
        further = 1 + number % (len(asked_of) - 1)
        return {subject: asked_of[(i + further) % len(asked_of)] for i, subject in enumerate(asked_of)}

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Every image to generate, subject by subject, prompt by prompt, sample by sample.

        A prompt is left out for the subjects that it is not for (:meth:`Prompt.is_for`). One of two subjects comes once
        for each subject in the first place.

        With a limit they are taken along the diagonals of subjects x prompts, so that a few images already show many
        subjects and many prompts. All samples of a prompt are taken before the next prompt's first, so only the last
        prompt to be taken may lack some.
        """
        pairs = {p: self._beside(p) for p, prompt in enumerate(self.prompts) if prompt.of_two}
        every = [
            (
                ((p - s) % len(self.prompts), s, sample),
                _request(subject, prompt, sample, pairs[p][subject] if p in pairs else None),
            )
            for s, (subject, noun) in enumerate(self.subjects.items())
            for p, prompt in enumerate(self.prompts)
            if prompt.is_for(subject, noun)
            for sample in range(self.samples)
        ]
        taken = {turn for turn, _ in sorted(every, key=lambda pair: pair[0])[: self.limit]}
        return tuple(request for turn, request in every if turn in taken)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the SHA-256 over the canonical JSON of all fields but those that are not set."""
        decided = {name: value for name, value in self._fields().items() if value is not None}
        text = json.dumps(decided, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict:
        return {"hash": self.hash, **self._fields()}

    def _fields(self) -> dict:
        fields = {**asdict(self), "prompts": [prompt.to_json() for prompt in self.prompts]}
        return {name: value for name, value in fields.items() if name not in _SEVERAL or value is not None}

    @classmethod
    def from_json(cls, data: Mapping) -> "Protocol":
        """The inverse of :meth:`to_json`; raises ``LikenessError`` if the hash does not fit the rest."""
        try:
            found = {name: value for name, value in data.items() if name != "hash"}
            if absent := {field.name for field in fields(cls)} - found.keys() - _SEVERAL:
                raise KeyError(f"there is no {min(absent)}")
            protocol = cls(**{**found, "prompts": tuple(map(Prompt.from_json, found["prompts"]))})
        except (AttributeError, KeyError, TypeError) as error:
            raise LikenessError(
                f"protocol.json is damaged or was written by another version of Likeness: {error}"
            ) from error
        if protocol.hash != data.get("hash"):
            raise LikenessError("protocol.json was changed by hand: its hash does not fit; take another --output")
        return protocol


def _request(subject: str, prompt: Prompt, sample: int, beside: str | None) -> Request:
    text = prompt.text if beside is None else with_second(prompt.text, beside)
    return Request(subject, prompt.id, text, prompt.prompt_class, sample, beside)


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """SHA-256 over what prompts say, in their order; what stands for the subject in the file does not matter."""
    text = json.dumps([prompt.to_json() for prompt in prompts], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_name(kind: str, name: str) -> None:
    """Refuse an id that is not safe as a part of a file name."""
    if not _NAME.fullmatch(name):
        raise LikenessError(f"{kind} id {name!r} must be made of a-z, 0-9, _ and - only")

"""What flows from the protocol to generation, from scoring to tables. Plain data that goes to JSON and back."""

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Request:
    """One image to generate: which subject, which prompt, which sample of it."""

    subject: str
    prompt_id: str
    prompt: str
    """With the placeholder, for instance ``a photo of <subject> on a beach``."""
    prompt_class: str
    """scene, attribute, action, accessory, style or mix."""
    sample: int
    beside: str | None = None
    """The second subject, whose placeholder the prompt holds too, where an image is to show two."""

    @property
    def id(self) -> str:
        """Unique name, safe as a file name: subject and prompt are restricted to ``[a-z0-9_-]`` in their ids."""
        return f"{self.subject}.{self.prompt_id}.{self.sample:02d}"


@dataclass(frozen=True)
class Record:
    """Scores of one image: one JSON line. A score that cannot be measured (no face found) is ``None``."""

    request_id: str
    subject: str
    prompt_id: str
    prompt_class: str
    sample: int
    image_sha256: str
    metric_versions: dict[str, str]
    """Version string by metric name; tables refuse to mix different ones."""
    scores: dict[str, float | None]
    """Raw values by metric name, for instance ``identity`` (cosine), ``clip_t``."""
    details: dict[str, float | int | str | bool | None] = field(default_factory=dict)
    """What explains a score: number of faces found, whether the prompt was truncated."""
    features: dict[str, str] = field(default_factory=dict)
    """Unit feature vectors that set-level metrics (diversity) need, by name, as base64 of little-endian float32."""

    @property
    def has_face(self) -> bool:
        """Whether the subject is one with a face, as it is where ``details`` do not say: an object has no identity."""
        return bool(self.details.get("subject_has_face", True))

    @property
    def missing(self) -> bool:
        """Whether there is no image, as may be allowed where images were made elsewhere."""
        return bool(self.details.get("missing", False))

    @property
    def face_missed(self) -> bool:
        """Whether no face was found in an image of a subject that has one."""
        return self.has_face and not self.missing and not self.details["faces"]

    def to_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval over subjects and the number of subjects behind it."""

    value: float | None
    low: float | None
    high: float | None
    n: int

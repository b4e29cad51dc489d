"""What a number means: the card of a metric. Numbers with different version strings never share a column."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contracts.errors import LikenessError
from contracts.settings import JudgeSettings
from networks.face_analysis import DETECTION_SIDE, SCORE_THRESHOLD, FacePack
from networks.fingerprints import file_fingerprint, folder_fingerprint, resolve_source

GROUPS = ("summary", "identity", "subject", "text", "image", "diversity", "distribution", "leakage")


@dataclass(frozen=True)
class MetricCard:
    """Describes one column of a leaderboard.

    ``version`` changes whenever the number would, and names everything that it depends on: backbone and its
    hash, preprocessing, scale. ``higher_is_better`` is the direction, ``low`` and ``high`` bound the values where
    they are bounded, ``source`` says who defined the metric. ``title`` and ``group`` (one of ``GROUPS``) are how tables
    name and sort it; ``headline`` columns are those of a narrow table, ``by_class`` ones are read by prompt class.
    ``guards`` are columns of copy-paste: an entry that copies its reference by one of them is no better for a high
    value in this column, and gets no mark there.
    """

    name: str
    title: str
    group: str
    version: str
    backbone: str
    backbone_hash: str
    preprocessing: str
    higher_is_better: bool
    low: float | None
    high: float | None
    source: str
    about: str
    headline: bool = False
    by_class: bool = False
    guards: Sequence[str] = ()

    @property
    def arrow(self) -> str:
        """Direction as one character."""
        return "↑" if self.higher_is_better else "↓"

    def to_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class JudgeNetwork:
    """What a card says about the network behind a metric; ``tag`` stands for it in version strings."""

    kind: str
    hash: str
    preprocessing: str
    tag: str


@dataclass(frozen=True)
class PlanSize:
    """How many images a plan has: ``samples`` of one subject and prompt, ``images`` of one entry."""

    samples: int
    images: int


def judge_networks(settings: JudgeSettings) -> dict[str, JudgeNetwork]:
    """The networks of ``settings`` by its keys. None is loaded, only their files are read.

    Raises:
        LikenessError: a network is not there.
    """
    read = {
        "faces": _faces,
        "clip": _clip,
        "second_faces": _second_faces,
        "image_backbone": _image_backbone,
        "lpips": _lpips,
    }
    return {key: read[key](source) for key, source in vars(settings).items() if source}


def versions(cards: Iterable[MetricCard]) -> dict[str, str]:
    """Version string by metric name, as protocols and records hold it."""
    return {card.name: card.version for card in cards}


def _faces(source: str) -> JudgeNetwork:
    steps = f"insightface, detection at {DETECTION_SIDE}, score over {SCORE_THRESHOLD}, no retry, crop 112"
    pack = FacePack(source).fingerprint
    tag = f"faces-{pack[:8]}|det{DETECTION_SIDE}-thr{SCORE_THRESHOLD}|largest"
    return JudgeNetwork("insightface pack", pack, steps, tag)


def _second_faces(source: str) -> JudgeNetwork:
    pack = FacePack(source).fingerprint
    return JudgeNetwork("recogniser of a second insightface pack", pack, "", f"second-{pack[:8]}")


def _clip(source: str) -> JudgeNetwork:
    digest = folder_fingerprint(resolve_source(source))
    return JudgeNetwork("CLIP", digest, "the model's own PIL pipeline, fp32", f"clip-{digest[:8]}|pil|fp32")


def _image_backbone(source: str) -> JudgeNetwork:
    digest = folder_fingerprint(resolve_source(source))
    steps = "the model's own PIL pipeline, fp32, class token"
    return JudgeNetwork("image backbone", digest, steps, f"image-{digest[:8]}|pil|cls|fp32")


def _lpips(source: str) -> JudgeNetwork:
    if not Path(source).is_file():
        raise LikenessError(f"judges.lpips: no file {source}")
    digest = file_fingerprint(Path(source))
    return JudgeNetwork("LPIPS", digest, "-1..1, no resize, fp32", f"lpips-{digest[:8]}|fp32")

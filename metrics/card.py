"""What a number means: the card of a metric. Numbers with different version strings never share a column."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from contracts.errors import LikenessError
from contracts.settings import JudgeSettings
from networks.face_analysis import FacePack
from networks.face_detectors import SCORE_THRESHOLD
from networks.face_files import find_parts_file
from networks.face_parts import LEAST, MOST_ENLARGED, PARTS, READABLE
from networks.fingerprints import file_fingerprint, folder_fingerprint, resolve_source
from networks.image_backbone import POOLINGS, pooling_of
from networks.segmenter import Segmenter

GROUPS = ("summary", "identity", "pair", "subject", "text", "image", "diversity", "distribution", "leakage", "drift")


@dataclass(frozen=True)
class MetricCard:
    """Describes one column of a leaderboard.

    ``version`` changes whenever the number would, and names everything that it depends on: backbone and its
    hash, preprocessing, scale. ``higher_is_better`` is the direction, ``low`` and ``high`` bound the values where
    they are bounded, ``source`` says who defined the metric. ``title`` and ``group`` (one of ``GROUPS``) are how tables
    name and sort it; ``headline`` columns are those of a narrow table, ``by_class`` ones are read by prompt class.
    ``guards`` are columns of copy-paste: an entry that copies its reference by one of them is no better for a high
    value in this column, and gets no mark there.
    ``licence`` is that of the network, where that is known; ``caution`` says, after the semicolon that ends ``about``,
    what to know before the numbers are read.
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
    licence: str = ""
    caution: str = ""

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
    licence: str = ""


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
    read: dict[str, Callable[[str], JudgeNetwork]] = {
        "faces": partial(_faces, det_size=settings.det_size),
        "clip": _clip,
        "second_faces": _second_faces,
        "image_backbone": _image_backbone,
        "lpips": _lpips,
        "segmenter": _segmenter,
    }
    networks = {key: read[key](source) for key, source in settings.sources.items()}
    # The face pack reads them: a further network of the same folder.
    return networks | ({"face_parts": networks["faces"]} if reads_parts(settings) else {})


def reads_parts(settings: JudgeSettings) -> bool:
    """Whether the face pack that judges reads the parts of a face."""
    return bool(settings.faces) and find_parts_file(settings.faces) is not None


def versions(cards: Iterable[MetricCard]) -> dict[str, str]:
    """Version string by metric name, as protocols and records hold it."""
    return {card.name: card.version for card in cards}


def _faces(source: str, det_size: int | Sequence[int]) -> JudgeNetwork:
    pack = FacePack(source, det_size)
    detector, recogniser = pack.detector_file, pack.recogniser_file
    library = detector.library if detector.library == recogniser.library else "OpenCV and insightface"
    kind = {"insightface": "insightface pack", "OpenCV": "OpenCV pack"}
    mixed = f"face pack: detector in the form of {detector.library}, recogniser in that of {recogniser.library}"
    sides = " and ".join(map(str, pack.sides))
    steps = f"{library}, detection at {sides}, score over {SCORE_THRESHOLD}, no retry, crop {recogniser.side}"
    found = f"det{'+'.join(map(str, pack.sides))}-thr{SCORE_THRESHOLD}"
    if pack.parts_file:
        steps += f", {LEAST} of {len(PARTS)} parts readable"
        found += f"|parts{LEAST}-thr{READABLE}-x{MOST_ENLARGED}"
    tag = f"faces-{pack.fingerprint[:8]}|{found}|largest"
    return JudgeNetwork(kind.get(library, mixed), pack.fingerprint, steps, tag, pack.licence)


def _second_faces(source: str) -> JudgeNetwork:
    pack = FacePack(source)
    kind = f"recogniser of a second {pack.recogniser_file.library} pack"
    return JudgeNetwork(kind, pack.fingerprint, "", f"second-{pack.fingerprint[:8]}", pack.licence)


def _clip(source: str) -> JudgeNetwork:
    digest = folder_fingerprint(resolve_source(source))
    return JudgeNetwork("CLIP", digest, "the model's own PIL pipeline, fp32", f"clip-{digest[:8]}|pil|fp32")


def _image_backbone(source: str) -> JudgeNetwork:
    folder = resolve_source(source)
    digest, pooling = folder_fingerprint(folder), pooling_of(folder)
    steps = f"the model's own PIL pipeline, fp32, {POOLINGS[pooling]}"
    return JudgeNetwork("image backbone", digest, steps, f"image-{digest[:8]}|pil|{pooling}|fp32")


def _lpips(source: str) -> JudgeNetwork:
    if not Path(source).is_file():
        raise LikenessError(f"judges.lpips: no file {source}")
    digest = file_fingerprint(Path(source))
    return JudgeNetwork("LPIPS", digest, "-1..1, no resize, fp32", f"lpips-{digest[:8]}|fp32")


def _segmenter(source: str) -> JudgeNetwork:
    digest = Segmenter(source).fingerprint
    return JudgeNetwork("segmentation model", digest, "background grey", f"segmenter-{digest[:8]}|grey")

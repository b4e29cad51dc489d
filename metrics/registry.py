"""Every metric by name, in the order of tables. A new metric is one file and one line here."""

from collections.abc import Collection, Mapping

from contracts.settings import JudgeSettings
from metrics.base import Judge, Metric, Need
from metrics.card import MetricCard, PlanSize, judge_networks
from metrics.clip_score import ClipT, EditMargin
from metrics.copy_paste import CopyPaste
from metrics.diversity import Diversity, LpipsDiversity, Vendi
from metrics.identity import (
    DetectionRate,
    IdentityGivenDetection,
    IdentityMissesZero,
    IdentitySecondOpinion,
    IdentityToReference,
)
from metrics.image_similarity import ForegroundSimilarity, ImageSimilarity, SimilarityToReference
from metrics.kid import KernelDistance
from metrics.leakage import BackgroundCopied, BackgroundLeakage, PoseLeakage

_DINO = "cosine of image features to the reference, DINO where judges.image_backbone is DINO"
_BACKBONE: tuple[Judge, str] = ("image_backbone", "image")
_ALL: tuple[Metric, ...] = (
    DetectionRate(),
    IdentityGivenDetection(),
    IdentityMissesZero(),
    IdentitySecondOpinion(),
    IdentityToReference(),
    CopyPaste(),
    ClipT(),
    EditMargin(),
    ImageSimilarity("clip", "clip", "clip_i", "CLIP-I"),
    ForegroundSimilarity("clip", "clip", "clip_i_foreground", "CLIP-I, person"),
    SimilarityToReference(
        "clip", "clip", "clip_i_to_reference", "CLIP-I to reference", "clip_i", "CLIP-I to the reference"
    ),
    ImageSimilarity(*_BACKBONE, "image_similarity", "image similarity"),
    ForegroundSimilarity(*_BACKBONE, "image_similarity_foreground", "image similarity, person"),
    SimilarityToReference(
        *_BACKBONE, "image_similarity_to_reference", "image similarity to reference", "image_similarity", _DINO
    ),
    Diversity(),
    Vendi(),
    LpipsDiversity(),
    KernelDistance(),
    BackgroundLeakage(),
    BackgroundCopied(),
    PoseLeakage(),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}


def metrics_of(judges: JudgeSettings, given: Collection[Need] | None = None) -> list[Metric]:
    """The metrics whose judge is configured, in the order of tables; with ``given`` those that need nothing else."""
    configured = {key for key, source in vars(judges).items() if source}
    return [
        metric
        for metric in METRICS.values()
        if metric.judge in configured and (given is None or metric.needs <= set(given))
    ]


def list_cards(judges: JudgeSettings, samples: int, images: int) -> tuple[MetricCard, ...]:
    """The cards of all metrics that these judges measure, in the order of tables.

    Args:
        samples: Images per subject and prompt.
        images: Images per entry.

    Raises:
        LikenessError: a network of ``judges`` is not there.
    """
    networks = judge_networks(judges)
    size = PlanSize(samples, images)
    return tuple(
        metric.card(networks, size)
        for metric in metrics_of(judges)
        if not metric.name.endswith("_i_to_reference") and metric.name != "image_similarity_to_reference"
    )

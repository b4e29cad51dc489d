"""Every metric by name, in the order of tables. A new metric is a file with its ``METRICS``, and a line here."""

from collections.abc import Collection, Mapping
from importlib import import_module

from contracts.settings import JudgeSettings
from metrics.base import NEEDS, Kind, Metric, Need
from metrics.card import MetricCard, PlanSize, judge_networks, reads_parts

FILES = (
    "identity",
    "retrieval",
    "pairs",
    "copy_paste",
    "subject",
    "clip_t",
    "image_similarity",
    "diversity",
    "background_ssim",
    "kid",
    "leakage",
)
METRICS: Mapping[str, Metric] = {
    metric.name: metric for file in FILES for metric in import_module(f"metrics.{file}").METRICS
}


def metrics_of(
    judges: JudgeSettings, given: Collection[Need] = NEEDS, kinds: Collection[Kind] | None = None
) -> list[Metric]:
    """The metrics whose judge is configured and that need nothing but what is ``given``, in the order of tables; with
    ``kinds`` those that are defined for such subjects."""
    there = {*judges.sources, *(["face_parts"] if reads_parts(judges) else [])}
    return [
        metric
        for metric in METRICS.values()
        if metric.judge in there and metric.needs <= set(given) and (kinds is None or metric.kinds & set(kinds))
    ]


def list_cards(
    judges: JudgeSettings,
    samples: int,
    images: int,
    given: Collection[Need] = NEEDS,
    kinds: Collection[Kind] | None = None,
) -> tuple[MetricCard, ...]:
    """The cards of all metrics that these judges measure, in the order of tables.

    Args:
        samples: Images per subject and prompt.
        images: Images per entry.
        given: What metrics can read; the columns that need anything else do not exist.
        kinds: What the subjects are: people, objects, or both; not known if not said.

    Raises:
        LikenessError: a network of ``judges`` is not there.
    """
    networks = judge_networks(judges)
    size = PlanSize(samples, images)
    return tuple(metric.card(networks, size) for metric in metrics_of(judges, given, kinds))

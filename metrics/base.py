"""One definition of a metric: its card, what it needs, the scores of images, and how they become a value per subject.

Scoring writes what :meth:`Metric.rows` gives into records. Tables call :meth:`Metric.by_subject` on the rows of the
records. The torchmetrics class (:mod:`metrics.state`) holds the same rows. So there is one arithmetic.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from contracts.records import Request
from metrics.card import JudgeNetwork, MetricCard, PlanSize
from metrics.conventions import PresetColumn
from metrics.judges import JudgedImages

Floats = NDArray[np.float64]
Judge = Literal["faces", "face_parts", "second_faces", "clip", "image_backbone", "lpips"]
Need = Literal[
    "image", "prompt", "reference", "gallery", "region", "samples", "photos", "backgrounds", "poses", "clothes", "pair"
]
"""What a metric reads beside the features of its judge: the pixels, the prompt, the reference photo, the held-out
photos of the subject (its gallery), the region of the person, all samples of a prompt at once, the held-out photos of
all subjects, the known backgrounds of the photos and the words for them, their known poses, their known clothes, the
held-out photos of two subjects who are both to be in the image."""
NEEDS: frozenset[Need] = frozenset(get_args(Need)) - {"pair"}
"""What there is to read of images of one subject."""
PAIR_NEEDS: frozenset[Need] = frozenset({"image", "prompt", "samples", "pair"})
"""What there is to read of images of two subjects. All else is of one subject: its photos, its face, what is behind."""
Kind = Literal["people", "objects"]
"""People are subjects with a face, objects those without."""
PEOPLE: frozenset[Kind] = frozenset({"people"})
DECIMALS = 7
"""Scores are rounded to so many decimals: as precise as the networks' float32."""


@dataclass(frozen=True)
class Ratio:
    """A column by subject: ``numerator`` (S,) over ``denominator`` (S,), in the plan's order of subjects. Of K
    trainings each is (K, S).

    The column's value is the sum of the one over the sum of the other. A subject whose denominator is 0 says nothing.
    """

    numerator: Floats
    denominator: Floats

    @property
    def value(self) -> float:
        """The column's value; NaN where no subject says anything."""
        total = float(self.denominator.sum())
        return float(self.numerator.sum()) / total if total else float("nan")

    @property
    def several(self) -> bool:
        """Whether it is of several trainings."""
        return self.numerator.ndim > 1

    @property
    def pooled(self) -> "Ratio":
        """The sums (S,) over all trainings."""
        return Ratio(self.numerator.sum(axis=0), self.denominator.sum(axis=0)) if self.several else self

    def of(self, subjects: NDArray[np.bool_]) -> "Ratio":
        """The same of some of the subjects, given as (S,)."""
        return Ratio(self.numerator[..., subjects], self.denominator[..., subjects])


@dataclass(frozen=True)
class Rows:
    """What a metric scored: a row for each of N images, in the order of the plan."""

    values: NDArray[np.floating]
    """(N,) scores, NaN where an image has none; or (N, D) feature vectors."""
    subject: NDArray[np.int64]
    """(N,) index of the image's subject in 0..``subjects`` - 1."""
    group: NDArray[np.int64]
    """(N,) index of the pair of subject and prompt, in the order of the plan."""
    subjects: int
    """Number of subjects in the plan."""
    samples: int
    """Images that a complete group has."""
    beside: NDArray[np.int64]
    """(N,) index of the image's second subject, -1 where it has one alone."""


class PlanIndex:
    """Where each request of a plan stands: its number, its subjects' and its group's (subject and prompt).

    ``subjects`` are all of the plan in their order, ``samples`` is how many images a complete group has.
    """

    def __init__(self, requests: Sequence[Request], subjects: Sequence[str], samples: int) -> None:
        order = {subject: i for i, subject in enumerate(subjects)}
        groups: dict[tuple[str, str], int] = {}
        for request in requests:
            groups.setdefault((request.subject, request.prompt_id), len(groups))
        self.number = {request.id: i for i, request in enumerate(requests)}
        self.subject = np.array([order[request.subject] for request in requests], np.int64)
        self.group = np.array([groups[request.subject, request.prompt_id] for request in requests], np.int64)
        self.beside = np.array([order.get(request.beside or "", -1) for request in requests], np.int64)
        self.subjects = len(subjects)
        self.samples = samples

    def rows(self, values: NDArray[np.floating], numbers: NDArray[np.int64]) -> Rows:
        """Rows of the requests with these ``numbers`` (N,) in the plan."""
        subject, group, beside = (of[numbers] for of in (self.subject, self.group, self.beside))
        return Rows(values, subject, group, self.subjects, self.samples, beside)


class Metric(ABC):
    """One column of a leaderboard.

    A subclass sets the fields of its card and says how images are scored. The column's value is the mean over the
    images that have a score, unless :meth:`by_subject` says otherwise.
    """

    name: str
    title: str
    """What tables call it."""
    group: str
    """One of :data:`metrics.card.GROUPS`."""
    judge: Judge
    """Key of the judge whose network the card names; the metric exists where this judge is configured."""
    rule: str
    """The part of the version string that says how a number comes from the network's output."""
    about: str
    needs: frozenset[Need] = frozenset({"image"})
    kinds: frozenset[Kind] = frozenset({"people", "objects"})
    """The subjects that it is defined for; without such a subject there is no column."""
    higher_is_better: bool = True
    low: float | None = -1.0
    high: float | None = 1.0
    source: str = "Likeness"
    headline: bool = False
    """Whether it is a column of the narrow table."""
    by_class: bool = False
    """Whether it is read by prompt class, though it is no column of the narrow table."""
    missing: float | None = None
    """The score of an image that an entry lacks, of a subject that it is defined for; ``None`` leaves it out."""
    guards: tuple[str, ...] = ()
    """The metrics of copy-paste that a likeness is read with, see :class:`metrics.card.MetricCard`."""
    feature: str = ""
    """Name of the feature whose vectors are the rows, for metrics of whole sets; empty where rows are scores."""
    cosine_of: str = ""
    """Name of the feature of faces whose raw cosines the values are; empty where they are none."""
    presets: tuple[PresetColumn, ...] = ()
    """The peers' tables that report this metric, and by which convention."""

    def card(self, networks: Mapping[str, JudgeNetwork], size: PlanSize) -> MetricCard:
        """The card, with the network of ``judge`` among ``networks`` (see :func:`metrics.card.judge_networks`)."""
        network = networks[self.judge]
        return MetricCard(
            name=self.name,
            title=self.title,
            group=self.group,
            version=f"{self.name}@{network.tag}|{self.rule}",
            backbone=network.kind,
            backbone_hash=network.hash,
            preprocessing=network.preprocessing,
            higher_is_better=self.higher_is_better,
            low=self.low,
            high=self.high,
            source=self.source,
            about=self.about,
            headline=self.headline,
            by_class=self.by_class,
            guards=self.guards,
            licence=network.licence,
        )

    @abstractmethod
    def score(self, judged: JudgedImages) -> Tensor:
        """The score of each image (B,), NaN where it has none; feature vectors (B, D) where ``feature`` is set."""

    def rows(self, judged: JudgedImages) -> NDArray[np.floating]:
        """What records and states hold of :meth:`score`: rounded scores (B,), or vectors (B, D) as they are."""
        scores = self.score(judged)
        if self.feature:
            return scores.numpy()
        return np.array([round(score, DECIMALS) for score in scores.tolist()], np.float64)

    def by_subject(self, rows: Rows) -> Ratio | None:
        """The column by subject; ``None`` for a metric of a whole entry, which has only :meth:`value`."""
        known = np.isfinite(rows.values)
        return sums_by_subject(np.where(known, rows.values, 0.0), known, rows.subject, rows.subjects)

    def value(self, rows: Rows, photos: NDArray[np.float32] | None = None) -> float:
        """The column's value over all rows; NaN where nothing is defined.

        ``photos`` are the ``feature`` vectors (M, D) of the held-out photos of all subjects, for a metric that needs
        ``photos``.
        """
        column = self.by_subject(rows)
        return float("nan") if column is None else column.value


def sums_by_subject(values: NDArray, known: NDArray, owner: NDArray[np.int64], subjects: int) -> Ratio:
    """Sums of ``values`` (N,) and numbers of ``known`` ones (N,) by ``owner`` (N,), the index of a subject."""
    return Ratio(_sum(owner, values, subjects), _sum(owner, known.astype(np.float64), subjects))


def _sum(owner: NDArray[np.int64], values: NDArray, subjects: int) -> Floats:
    return np.bincount(owner, values, subjects).astype(np.float64, copy=False)

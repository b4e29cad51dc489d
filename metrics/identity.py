"""Identity as three columns: how often a face is found, how alike it is where found, and both in one.

A raw cosine is never clamped: unrelated faces average to about 0 only if the negative ones count too. An object has no
face to miss, so none of these metrics is defined for it.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from metrics.base import PEOPLE, Judge, Metric, Need
from metrics.card import JudgeNetwork, MetricCard, PlanSize
from metrics.conventions import PresetColumn, clamped_misses_zero, outliers_removed, over_groups
from metrics.judges import JudgedImages, where

_PHOTOS = "mean cosine of the generated face to the subject's held-out photos"


class _OfFaces(Metric):
    group = "identity"
    judge: Judge = "faces"
    kinds = PEOPLE
    needs: frozenset[Need] = frozenset({"image", "gallery"})


class DetectionRate(_OfFaces):
    """1 where a face was found, 0 where the subject has one and none was found."""

    name = "detection_rate"
    title = "detection rate"
    rule = "share"
    about = "share of images with a face"
    low = 0
    high = 1
    headline = True
    missing = 0.0

    def score(self, judged: JudgedImages) -> Tensor:
        return where(judged.has_face, judged.found.double())


class FaceComplete(_OfFaces):
    """1 where both eyes, nose and mouth of the face can be read, 0 where not, or where no face was found."""

    name = "face_complete"
    title = "face complete"
    judge: Judge = "face_parts"
    rule = "eyes-nose-mouth|share"
    about = "share of images with a face whose eyes, nose and mouth can all be read"
    needs: frozenset[Need] = frozenset({"image"})
    low = 0
    high = 1
    missing = 0.0

    def score(self, judged: JudgedImages) -> Tensor:
        return where(judged.has_face, (judged.found & torch.from_numpy(judged.seen.judged.complete)).double())


class _OfLikeness(_OfFaces):
    guards = ("copy_paste",)


class IdentityGivenDetection(_OfLikeness):
    """Mean cosine to the held-out photos where a face was found."""

    name = "identity_given_detection"
    title = "identity, found"
    rule = "cos-mean-held-out|x1|found-only"
    about = f"{_PHOTOS}, where found"
    cosine_of = "faces"
    presets: tuple[PresetColumn, ...] = (
        PresetColumn("multiid", "similarity to the held-out photos", outliers_removed),
    )

    def score(self, judged: JudgedImages) -> Tensor:
        return where(judged.found, judged.to_photos("faces"))


class IdentityMissesZero(IdentityGivenDetection):
    """The same, and 0 where the subject has a face and none was found."""

    name = "identity_misses_zero"
    title = "identity, misses 0"
    rule = "cos-mean-held-out|x1|miss-0"
    about = f"{_PHOTOS}, 0 where no face was found"
    headline = True
    missing = 0.0
    presets = ()

    def score(self, judged: JudgedImages) -> Tensor:
        return where(judged.has_face, super().score(judged).nan_to_num(0.0))


class IdentitySecondOpinion(_OfLikeness):
    """Identity where found, on the same faces, by the recogniser of a second pack."""

    name = "identity_second_opinion"
    title = "identity, second network"
    judge = "second_faces"
    rule = "same-faces|cos-mean-held-out|x1|found-only"
    about = "as identity where found, on the same faces, by another network"
    cosine_of = "second"

    def card(self, networks: Mapping[str, JudgeNetwork], size: PlanSize) -> MetricCard:
        """The first pack finds the faces, so the version names both."""
        finder, second = networks["faces"], networks["second_faces"]
        version = f"{self.name}@{finder.tag}|{second.tag}|{self.rule}"
        return replace(super().card(networks, size), version=version, preprocessing=finder.preprocessing)

    def score(self, judged: JudgedImages) -> Tensor:
        return where(judged.found, judged.to_photos("second"))


class IdentityToReference(_OfLikeness):
    """Cosine to the photo that the method saw."""

    name = "identity_to_reference"
    title = "identity to reference"
    rule = "cos|x1|found-only"
    about = "cosine to the photo that the method saw; far above the held-out one it means copying"
    cosine_of = "faces"
    needs = frozenset({"image", "reference"})
    presets = (
        PresetColumn("fastcomposer", "similarity to the reference, clamped, misses 0", clamped_misses_zero),
        PresetColumn("celeb_basis", "similarity to the reference, misses left out", over_groups),
        PresetColumn("multiid", "similarity to the reference", outliers_removed),
    )

    def score(self, judged: JudgedImages) -> Tensor:
        return where(judged.found, judged.to_reference("faces"))


METRICS: tuple[Metric, ...] = (
    DetectionRate(),
    FaceComplete(),
    IdentityGivenDetection(),
    IdentityMissesZero(),
    IdentitySecondOpinion(),
    IdentityToReference(),
)

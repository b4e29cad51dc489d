"""Likeness to a subject without a face, and copying of its reference in the same feature.

Whole images are compared on both sides. What belongs to the object is not known of a generated image, and a rule that
cut only photos out would compare two different things.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from metrics.base import Judge, Kind, Metric, Need
from metrics.card import JudgeNetwork, MetricCard, PlanSize
from metrics.copy_paste import FORMULA
from metrics.functional.copy_paste import copy_paste_score
from metrics.judges import JudgedImages, where


class _OfObjects(Metric):
    """Judged by the image network (DINO, say) where one is configured, else by CLIP; the version says by which."""

    group = "subject"
    judge: Judge = "clip"
    kinds: frozenset[Kind] = frozenset({"objects"})
    headline = True

    def card(self, networks: Mapping[str, JudgeNetwork], size: PlanSize) -> MetricCard:
        network = networks.get("image_backbone", networks["clip"])
        card = super().card({**networks, self.judge: network}, size)
        return replace(card, preprocessing=f"{network.preprocessing}; whole images, background included")


def _view(judged: JudgedImages) -> str:
    return "image" if judged.judges.image else "clip"


class SubjectLikeness(_OfObjects):
    """Mean raw cosine to the held-out photos."""

    name = "subject_likeness"
    title = "subject likeness"
    rule = "cos-mean-held-out|x1|whole image"
    about = "mean cosine of the image to the held-out photos of a subject without a face"
    needs: frozenset[Need] = frozenset({"image", "gallery"})
    source = "DreamBooth, arXiv 2208.12242, with held-out photos in place of the method's own"
    guards = ("subject_copy_paste",)
    missing = 0.0

    def score(self, judged: JudgedImages) -> Tensor:
        return where(~judged.has_face, judged.to_photos(_view(judged)))


class SubjectCopyPaste(_OfObjects):
    """Copy-paste of a subject without a face, by the feature of its likeness."""

    name = "subject_copy_paste"
    title = "subject copy-paste"
    rule = f"{FORMULA}|mean-over-held-out|arccos of the cosine|whole image"
    about = "of a subject without a face: 1 is a copy of the reference, 0 as near to it as to other photos"
    needs = frozenset({"image", "reference", "gallery"})
    higher_is_better = False
    source = "after MultiID-Bench (WithAnyone, arXiv 2510.14975), whose score is of faces"

    def score(self, judged: JudgedImages) -> Tensor:
        view = _view(judged)
        scores = copy_paste_score(judged.features(view), judged.references(view), judged.held_out(view))
        return where(~judged.has_face, scores)


METRICS: tuple[Metric, ...] = (SubjectLikeness(), SubjectCopyPaste())

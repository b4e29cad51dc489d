"""Likeness to a subject without a face, and copying of its reference in the same feature.

What of a picture is the object, a segmentation model says, of photos and of generated images alike. Without one whole
images are compared on both sides: masks are known of photos only, and a rule for these alone would compare two
different things.
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
    """Judged by the image network (DINO, say) where one is configured, else by CLIP, on the object alone where a
    segmentation model finds it, else on the whole image; the version says by which and on what."""

    group = "subject"
    judge: Judge = "clip"
    kinds: frozenset[Kind] = frozenset({"objects"})
    headline = True

    def card(self, networks: Mapping[str, JudgeNetwork], size: PlanSize) -> MetricCard:
        network = networks.get("image_backbone", networks["clip"])
        region, seen = "whole image", "whole images, background included"
        if segmenter := networks.get("segmenter"):
            region, seen = segmenter.tag, f"{segmenter.preprocessing} by the segmentation model {segmenter.hash[:16]}"
        return replace(
            super().card({**networks, self.judge: network}, size),
            version=f"{self.name}@{network.tag}|{region}|{self.rule}",
            preprocessing=f"{network.preprocessing}; {seen}",
        )


def _view(judged: JudgedImages) -> str:
    """The name of the features that objects are judged by."""
    network = "image" if judged.judges.image else "clip"
    return f"{network}_object" if judged.judges.segmenter else network


class SubjectLikeness(_OfObjects):
    """Mean raw cosine to the held-out photos; 0 where no object is found."""

    name = "subject_likeness"
    title = "subject likeness"
    rule = "cos-mean-held-out|x1|miss-0"
    about = "mean cosine to the held-out photos of a subject without a face, 0 where no object is found"
    missing = 0.0
    needs: frozenset[Need] = frozenset({"image", "gallery"})
    source = "DreamBooth, arXiv 2208.12242, with held-out photos in place of the method's own"
    guards = ("subject_copy_paste",)

    def score(self, judged: JudgedImages) -> Tensor:
        return where(~judged.has_face, judged.to_photos(_view(judged)))


class SubjectCopyPaste(_OfObjects):
    """Copy-paste of a subject without a face, by the feature of its likeness."""

    name = "subject_copy_paste"
    title = "subject copy-paste"
    rule = f"{FORMULA}|mean-over-held-out|arccos of the cosine|found-only"
    about = "of a subject without a face: 1 is a copy of the reference, 0 as near to it as to other photos"
    needs = frozenset({"image", "reference", "gallery"})
    higher_is_better = False
    source = "after MultiID-Bench (WithAnyone, arXiv 2510.14975), whose score is of faces"

    def score(self, judged: JudgedImages) -> Tensor:
        view = _view(judged)
        images = judged.features(view)
        scores = copy_paste_score(images, judged.references(view), judged.held_out(view))
        return where(~judged.has_face & images.any(dim=1), scores)


METRICS: tuple[Metric, ...] = (SubjectLikeness(), SubjectCopyPaste())

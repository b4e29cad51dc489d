"""Leakage: how far background, head pose and clothes, which are not identity, come over from the reference photo."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metrics.base import PEOPLE, Metric
from metrics.functional.leakage import background_leakage, class_copied, clothes_colour, landmark_shape, pose_leakage
from metrics.judges import JudgedImages, where

_HIDDEN = "person region grey|found-only"


class BackgroundLeakage(Metric):
    """Cosine to the own reference's background less the mean cosine to those of other subjects; 0 is no leakage."""

    name = "background_leakage"
    title = "background leakage"
    group = "leakage"
    judge = "clip"
    rule = f"cos(own-reference)-cos(other-references)|{_HIDDEN}"
    about = "how much nearer the background is to the reference's than to those of other subjects' references"
    kinds = PEOPLE
    needs = frozenset({"image", "reference", "region"})
    higher_is_better = False
    low = -2.0
    high = 2.0

    def score(self, judged: JudgedImages) -> Tensor:
        others = torch.from_numpy(np.stack([gallery.other_backgrounds for gallery in judged.galleries]))
        own = judged.references("clip_background")
        leaked = background_leakage(judged.features("clip_background"), own, others)
        return where(judged.found & others.any(dim=1), leaked)


class BackgroundCopied(Metric):
    """1 where the nearest class of backgrounds is the reference's, of prompts that do not ask for it and references
    whose class is known."""

    name = "background_copied"
    title = "background copied"
    group = "leakage"
    judge = "clip"
    rule = f"nearest-class-mean|{_HIDDEN}|not-asked-for"
    about = "share of images before the background of the reference, of prompts that do not ask for it"
    kinds = PEOPLE
    needs = frozenset({"image", "prompt", "reference", "region", "backgrounds"})
    higher_is_better = False
    low = 0.0
    high = 1.0

    def score(self, judged: JudgedImages) -> Tensor:
        galleries = judged.galleries
        asked = _asked_for([gallery.background_text for gallery in galleries], judged.prompts)
        own = torch.tensor([gallery.background for gallery in galleries])
        means = torch.from_numpy(galleries[0].background_means)
        copied = class_copied(judged.features("clip_background"), own, means)
        return where(judged.found & ~asked & (own >= 0), copied)


class PoseLeakage(Metric):
    name = "pose_leakage"
    title = "pose leakage"
    group = "leakage"
    judge = "faces"
    rule = "1-angle/45|ridge-on-landmarks|known-reference-pose|found-only"
    about = "1 is the head pose of the reference, 0 is 45 degrees or more away from it"
    kinds = PEOPLE
    needs = frozenset({"image", "reference", "poses"})
    higher_is_better = False
    low = 0.0
    high = 1.0

    def score(self, judged: JudgedImages) -> Tensor:
        poses = landmark_shape(judged.seen.judged.landmarks) @ judged.galleries[0].pose_reader
        references = np.stack([gallery.pose for gallery in judged.galleries])
        return where(judged.found, pose_leakage(poses, references))


class ClothesCopied(Metric):
    """1 where the nearest class of clothes is the reference's, of prompts that do not ask for them."""

    name = "clothes_copied"
    title = "clothes copied"
    group = "leakage"
    judge = "faces"
    rule = "nearest-class-mean-in-Lab|a-box-wide-from-0.25-box-below-or-last-16th|not-asked-for|found-only"
    about = "share of images in clothes of the reference's colours, of prompts that do not ask for them"
    kinds = PEOPLE
    needs = frozenset({"image", "prompt", "reference", "clothes"})
    higher_is_better = False
    low = 0.0
    high = 1.0

    def score(self, judged: JudgedImages) -> Tensor:
        galleries = judged.galleries
        asked = _asked_for([gallery.clothes_text for gallery in galleries], judged.prompts)
        own = torch.tensor([gallery.clothes for gallery in galleries])
        colours = np.full((len(judged.images), 3), np.nan, np.float32)
        for i in np.flatnonzero(judged.found):
            colours[i] = clothes_colour(judged.images[i], judged.seen.judged.boxes[i])
        copied = class_copied(torch.from_numpy(colours), own, torch.from_numpy(galleries[0].clothes_means))
        shown = torch.from_numpy(np.isfinite(colours).all(axis=1))
        return where(shown & ~asked & (own >= 0), copied)


def _asked_for(texts: Sequence[str], prompts: Sequence[str]) -> Tensor:
    """(B,) bool: whether each prompt holds its text; an empty text is never asked for."""
    return torch.tensor([bool(text) and text in prompt for text, prompt in zip(texts, prompts, strict=True)])


METRICS: tuple[Metric, ...] = (BackgroundLeakage(), BackgroundCopied(), PoseLeakage(), ClothesCopied())

"""The judges of one evaluation: every score of an image from one decoded picture, and the card of every column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from leaderboard.settings import JudgeSettings
from metrics.card import MetricCard
from metrics.functional.clip_score import clip_similarity
from metrics.functional.identity import gallery_similarity
from networks.clip_judge import ClipJudge
from networks.face_analysis import DETECTION_SIDE, SCORE_THRESHOLD, FacePack

DECIMALS = 7  # as precise as the networks' float32


@dataclass(frozen=True)
class Scores:
    """Scores, explanations and features of one image, as its record holds them."""

    scores: dict[str, float | None]
    details: dict[str, float | int | str | bool | None]
    features: dict[str, list[float]]


class Judges:
    """Loads the judges of ``settings``; raises ``LikenessError`` where one is missing."""

    def __init__(self, settings: JudgeSettings) -> None:
        self.faces = FacePack(settings.faces)
        self.clip = ClipJudge(settings.clip)
        self.cards = make_cards(self.faces.fingerprint, self.clip.fingerprint)

    @property
    def versions(self) -> dict[str, str]:
        """Version string by column."""
        return {card.name: card.version for card in self.cards}

    def score(
        self, images: NDArray[np.uint8], texts: Sequence[str], galleries: NDArray, references: NDArray
    ) -> list[Scores]:
        """Judge RGB images (B, H, W, 3).

        Args:
            texts: B prompts with the class noun in them.
            galleries: (B, D) means of the subjects' held-out face embeddings.
            references: (B, D) face embeddings of the subjects' reference photos.
        """
        import torch

        judged = self.faces.judge(images)
        faces = torch.from_numpy(judged.embeddings)
        identity = gallery_similarity(faces, torch.from_numpy(galleries))
        copied = gallery_similarity(faces, torch.from_numpy(references))
        features = self.clip.image_features(images).cpu()
        words, cut = self.clip.text_features(list(texts))
        fit = clip_similarity(features, words.cpu())
        return [
            Scores(
                scores={
                    "identity": _number(identity[i]) if judged.found[i] else None,
                    "identity_to_reference": _number(copied[i]) if judged.found[i] else None,
                    "clip_t": _number(fit[i]),
                },
                details={"faces": int(judged.counts[i]), "detector_rung": judged.rungs[i], "tokens_cut": cut[i]},
                features={"clip": [_number(value) for value in features[i]]},
            )
            for i in range(len(images))
        ]


def _number(value: object) -> float:
    return round(float(value), DECIMALS)  # type: ignore[arg-type]


def make_cards(faces: str, clip: str) -> tuple[MetricCard, ...]:
    """The cards of all measured columns, from the fingerprints of the two judges."""
    face_steps = f"insightface, detection at {DETECTION_SIDE}, score over {SCORE_THRESHOLD}, retry padded, crop 112"
    face = f"faces-{faces[:8]}|det{DETECTION_SIDE}-thr{SCORE_THRESHOLD}-pad|largest"
    clip_steps = "the model's own PIL pipeline, fp32"
    eye = f"clip-{clip[:8]}|pil|fp32"

    def identity(name: str, version: str, low: float) -> MetricCard:
        return MetricCard(
            name, f"{name}@{face}|{version}", "insightface pack", faces, face_steps, True, low, 1.0, "Likeness"
        )

    def seen(name: str, version: str, low: float, high: float, source: str) -> MetricCard:
        return MetricCard(name, f"{name}@{eye}|{version}", "CLIP", clip, clip_steps, True, low, high, source)

    return (
        identity("detection_rate", "share", 0.0),
        identity("identity_given_detection", "cos-mean-held-out|x1|found-only", -1.0),
        identity("identity_misses_zero", "cos-mean-held-out|x1|miss-0", -1.0),
        identity("identity_to_reference", "cos|x1|found-only", -1.0),
        seen("clip_t", "cos|x1|noun|trunc-eos", -1.0, 1.0, "CLIPScore, arXiv 2104.08718, without its factor and clamp"),
        seen("diversity", "mean-pairwise-cos-distance|per-subject-and-prompt", 0.0, 2.0, "Likeness"),
    )


def derived_cards(cards: Mapping[str, MetricCard]) -> tuple[MetricCard, ...]:
    """The cards of the columns that compare an entry with floor and ceiling."""
    base, text = cards["identity_misses_zero"], cards["clip_t"]

    def derive(name: str, formula: str, card: MetricCard) -> MetricCard:
        version = f"{name}={formula}|{card.version}"
        return replace(card, name=name, version=version, low=None, high=None, source="Likeness")

    return (
        derive("identity_recovered", "(method-floor)/(ceiling-floor)", base),
        derive("prompt_kept", "method/floor", text),
    )

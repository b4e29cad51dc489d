"""The card of every column: what is measured, by which networks, and how."""

from collections.abc import Mapping
from dataclasses import replace

from metrics.card import MetricCard
from networks.face_analysis import DETECTION_SIDE, SCORE_THRESHOLD


def make_cards(faces: str, clip: str) -> tuple[MetricCard, ...]:
    """The cards of all measured columns, from the fingerprints of the two judges."""
    face_steps = f"insightface, detection at {DETECTION_SIDE}, score over {SCORE_THRESHOLD}, no retry, crop 112"
    face = f"faces-{faces[:8]}|det{DETECTION_SIDE}-thr{SCORE_THRESHOLD}|largest"
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

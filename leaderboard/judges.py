"""The judges of one evaluation: every score of an image from one decoded picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from leaderboard.cards import make_cards
from leaderboard.settings import JudgeSettings
from metrics.functional.clip_score import clip_similarity
from metrics.functional.identity import gallery_similarity
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack

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

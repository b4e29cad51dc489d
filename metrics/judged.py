"""Images with all that metrics score them by: what the networks see in them, prompts, and the subjects' real photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.prompts import plain_prompt
from contracts.records import Request
from metrics.functional.identity import gallery_similarity
from metrics.gallery import Gallery
from metrics.judges import Judges, Observation

NEUTRAL = "a photo of a {noun}"
"""The prompt without an edit, which the edit margin compares with."""


@dataclass(frozen=True)
class JudgedImages:
    """B images of requests, and what they are judged against."""

    requests: Sequence[Request]
    images: NDArray[np.uint8]
    """(B, H, W, 3) RGB."""
    prompts: Sequence[str]
    """The prompts as a judge reads them: class nouns in place of the placeholders, single spaces."""
    nouns: Sequence[str]
    """Class noun of each request's own subject."""
    galleries: Sequence[Gallery]
    """The real photos of each request's own subject."""
    seen: Observation
    judges: Judges

    @classmethod
    def judge(
        cls,
        judges: Judges,
        images: NDArray[np.uint8],
        requests: Sequence[Request],
        galleries: Sequence[Gallery],
        class_nouns: Mapping[str, str],
    ) -> "JudgedImages":
        """Look at images (B, H, W, 3), each network once. ``class_nouns`` are by subject."""
        return cls(
            requests=requests,
            images=images,
            prompts=[plain_prompt(request.prompt, request.subject, class_nouns) for request in requests],
            nouns=[class_nouns[request.subject] for request in requests],
            galleries=galleries,
            seen=judges.observe(images),
            judges=judges,
        )

    @cached_property
    def _read_prompts(self) -> tuple[Tensor, list[int]]:
        features, cut = self.judges.clip.text_features(list(self.prompts))
        return features.cpu(), cut

    @property
    def prompt_features(self) -> Tensor:
        """Unit CLIP features (B, D) of the prompts."""
        return self._read_prompts[0]

    @property
    def tokens_cut(self) -> list[int]:
        """How many tokens of each prompt CLIP did not read."""
        return self._read_prompts[1]

    @cached_property
    def neutral_features(self) -> Tensor:
        """Unit CLIP features (B, D) of each subject's neutral prompt."""
        features, _ = self.judges.clip.text_features([NEUTRAL.format(noun=noun) for noun in self.nouns])
        return features.cpu()

    @property
    def has_face(self) -> Tensor:
        """Which images (B,) bool are of a subject with a face; an object has none."""
        return torch.tensor([gallery.has_face for gallery in self.galleries], dtype=torch.bool)

    @property
    def found(self) -> Tensor:
        """Which images (B,) bool show a face of a subject that has one."""
        return torch.from_numpy(self.seen.judged.found) & self.has_face

    def features(self, name: str) -> Tensor:
        """Unit vectors (B, D) by the name of a view (see :class:`metrics.judges.Observation`)."""
        return torch.from_numpy(self.seen.features[name])

    def references(self, name: str) -> Tensor:
        """The same view of each subject's reference photo (B, D)."""
        return torch.from_numpy(np.stack([gallery.reference[name] for gallery in self.galleries]))

    def to_photos(self, name: str) -> Tensor:
        """Mean cosine (B,) of a view to the held-out photos' of the subject."""
        means = torch.from_numpy(np.stack([gallery.mean(name) for gallery in self.galleries]))
        return gallery_similarity(self.features(name), means)

    def to_reference(self, name: str) -> Tensor:
        """Cosine (B,) of a view to the reference photo's."""
        return gallery_similarity(self.features(name), self.references(name))

    def face_photos(self) -> Tensor:
        """Face embeddings (B, K, D) of the held-out photos; rows of zeros fill short galleries up and are no photos."""
        most = max(len(gallery.held_out["faces"]) for gallery in self.galleries)
        width = self.seen.features["faces"].shape[1]
        photos = np.zeros((len(self.galleries), most, width), np.float32)
        for row, gallery in zip(photos, self.galleries, strict=True):
            row[: len(gallery.held_out["faces"])] = gallery.held_out["faces"]
        return torch.from_numpy(photos)


def where(known: Tensor, values: Tensor) -> Tensor:
    """``values`` where ``known``, else NaN."""
    return torch.where(known, values, torch.nan)

"""Images of the base model with a LoRA on it, the one of each request's own subject."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from contracts.batch import RequestBatch
from contracts.conditioning import Conditioning
from contracts.prompts import OWN, plain_text
from leaderboard.generate.generation import PromptOnly
from leaderboard.loras.folder import LoraFolder
from networks.lora_file import check_fit, read_lora, worn


class LorasOn(PromptOnly):
    """The base model, which wears the LoRA of a ``folder`` that is of the request's subject. Prompts name the subject
    by the ``words`` of the LoRA.

    The requests of a batch are generated subject by subject, as peft does it. Each LoRA is read when it is needed: all
    of them may be large. ``scale`` is the strength of the change; 0 is the base model.
    """

    def __init__(self, backbone: str, folder: LoraFolder, words: Mapping[str, str], scale: float = 1.0) -> None:
        super().__init__(backbone)
        self.folder, self.words, self.scale = folder, words, scale

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        if self.scale == 0:
            return super().conditioning(batch)
        both = zip(batch.prompts, batch.subjects, strict=True)
        texts = [plain_text(prompt, {OWN: self.words[subject]}) for prompt, subject in both]
        return Conditioning.from_text(self.backbone.encode_text(texts))

    @torch.no_grad()
    def generate(self, batch: RequestBatch) -> Tensor:
        if self.scale == 0:
            return super().generate(batch)
        images: dict[int, Tensor] = {}
        for subject in dict.fromkeys(batch.subjects):
            place = self.folder.loras[subject].place
            lora = read_lora(place)
            check_fit(lora, self.backbone, self.backbone.fingerprint, f"--lora: {place}")
            rows = [row for row, name in enumerate(batch.subjects) if name == subject]
            with worn(self.backbone, lora, self.scale):
                images.update(zip(rows, super().generate(_some(batch, rows)), strict=True))
        return torch.stack([images[row] for row in range(len(images))])


def _some(batch: RequestBatch, rows: list[int]) -> RequestBatch:
    """Some of the requests of a batch that has no references."""
    return replace(
        batch,
        request_ids=tuple(batch.request_ids[row] for row in rows),
        subjects=tuple(batch.subjects[row] for row in rows),
        prompts=tuple(batch.prompts[row] for row in rows),
        noise=batch.noise[rows],
        text_states=batch.text_states[torch.tensor(rows)],
    )

"""Textual inversion at its smallest, written on the base of per-subject methods: one tensor per subject."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from contracts.batch import RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning
from contracts.prompts import OWN
from lightning_modules.per_subject import PerSubjectModule
from networks.backbone import Backbone
from networks.placeholders import encode_placed, place_subjects, single_token
from networks.stage_attention import install_stage_attention
from networks.subject_tensors import VECTORS, AdapterLayout, Nouns


class TokenVector(nn.Module):
    """The vector (1, D) of one subject's token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(1, width))

    def forward(self) -> dict[str, Tensor]:
        return {VECTORS: self.vector}


class TinyTextualInversion(PerSubjectModule):
    """A vector in the place of the class noun, for keys and values, at every stage."""

    def __init__(
        self,
        backbone: str | Backbone,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(backbone, None, learning_rate, weight_decay, warmup_steps)
        install_stage_attention(self.backbone.unet)
        self.prepare({}, 0, seed=0)

    def subject_module(self) -> TokenVector:
        return TokenVector(self.backbone.unet.config.cross_attention_dim)

    def begin_subject(self, noun: str, known: Mapping[str, Tensor] | None) -> TokenVector:
        token = single_token(self.backbone.tokenizer, noun)
        module, embeddings = self.subject_module(), self.backbone.text_encoder.get_input_embeddings().weight
        module.vector.data.copy_(known[VECTORS] if known else embeddings[token])
        return module

    @classmethod
    def check_prompt(cls, prompt: str, nouns: Nouns, layout: AdapterLayout, tokenizer: CLIPTokenizer) -> None:
        place_subjects(tokenizer, prompt, nouns, layout.shapes[VECTORS][0])

    def train_conditioning(self, batch: SubjectBatch) -> Conditioning:
        return self._encode(batch.prompts, batch.subjects, self.slots(self.slots_of(batch))[VECTORS])

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        vectors = torch.stack([self.subjects[name][VECTORS] for name in batch.subjects])
        return self._encode(batch.prompts, batch.subjects, vectors)

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        return Conditioning.from_text(self.backbone.encode_text([""]).expand(len(batch.prompts), -1, -1))

    def _encode(self, prompts: Sequence[str], subjects: Sequence[str], vectors: Tensor) -> Conditioning:
        """Text states of prompts in which ``vectors`` (B, 1, D) stand for the subjects."""
        placed = [
            place_subjects(self.backbone.tokenizer, prompt, {OWN: self.subjects.nouns[name]})
            for prompt, name in zip(prompts, subjects, strict=True)
        ]
        ids = torch.stack([p.ids for p in placed]).to(vectors.device)
        positions = torch.tensor([p.every_position for p in placed], device=vectors.device)
        return Conditioning.from_text(encode_placed(self.backbone.text_encoder, ids, positions, vectors))

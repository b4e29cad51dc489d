"""SeFi-IDE: token vectors per denoising stage, with a key and a value each, from one photo (arXiv 2402.00631).

What the paper states: the base model is frozen; the token V* has five pairs (P_i^K, P_i^V), one for each fifth of the
timesteps, that a self-attention module emits; the text encoder runs once with P_i^K, for the keys of every
cross-attention layer, and once with P_i^V, for the values; an attention loss of weight 0.003 pulls each token's
attention to that of the same sentence with the class noun. Optimiser, rate, steps, the loss's layers and reduction
and how the tokens begin are not known: those are our reconstruction.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from contracts.batch import SubjectBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from lightning_modules.token_vectors import TokenVectorModule
from losses.attention_alignment import attention_alignment_loss
from networks.attention import taken_notes
from networks.backbone import Backbone
from networks.stage_attention import ComparedConditioning, install_stage_attention
from networks.stage_tokens import FreeVectors, StageTokens, TokenEmitter
from networks.subject_tensors import VECTORS


class SefiIDE(TokenVectorModule):
    """Stage tokens for one subject or many, optimised together without touching one another.

    ``stages`` is the number of key-value pairs; with ``key_value`` ``shared`` a key is its value, which with one stage
    is textual inversion. ``tokens`` is what is trained: the paper's self-attention ``module`` or ``free`` vectors.
    ``tokens_per_subject`` is the number of places that a subject takes in a prompt: one in the paper, more are ours.
    ``attention_weight`` scales the attention loss, read in the layers whose query grid has ``attention_side`` cells a
    side; 0 leaves it out. ``values_behind`` says what the values of all tokens but the subject's are made of:
    ``learnt``, the states of the prompt with the subject's vectors in it, as in the paper; ``plain``, those of the same
    prompt with the class noun, which what is learnt cannot change (ours: what a subject costs of the prompt goes
    through the values of the tokens behind it). ``scale`` leads from the class noun's embedding (0, the base model) to
    the learnt one (1).
    """

    def __init__(
        self,
        backbone: str | Backbone,
        revision: str | None = None,
        stages: int = 5,
        key_value: Literal["split", "shared"] = "split",
        tokens: Literal["module", "free"] = "module",
        tokens_per_subject: int = 1,
        attention_weight: float = 0.003,
        attention_side: int = 32,
        values_behind: Literal["learnt", "plain"] = "learnt",
        scale: float = 1.0,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        if stages < 1:
            raise LikenessError(f"model.stages is {stages}, it must be at least 1")
        if tokens_per_subject < 1:
            raise LikenessError(f"model.tokens_per_subject is {tokens_per_subject}, it must be at least 1")
        self.stages = stages
        self.sides = 2 if key_value == "split" else 1
        self.attention_weight = attention_weight
        self.attention_side = attention_side
        self.values_behind = values_behind
        self.scale = scale
        self.shape = (stages, self.sides, tokens_per_subject, sum(self.backbone.text.widths))
        self._kind = TokenEmitter if tokens == "module" else FreeVectors
        install_stage_attention(self.backbone.unet)
        self.prepare({}, 0, seed=0)

    # --- a subject -------------------------------------------------------------------------------------------

    def subject_module(self) -> StageTokens:
        return StageTokens(self._kind, self.shape, self.backbone.text.widths)

    def begin_subject(self, noun: str, known: Mapping[str, Tensor] | None) -> StageTokens:
        """A module that emits the class noun's embedding everywhere, or the ``known`` vectors."""
        module, embedding = self.subject_module(), self.noun_embedding(noun)
        module.start_at(known[VECTORS] if known else embedding.expand(self.shape), embedding)
        return module

    # --- training --------------------------------------------------------------------------------------------

    def train_conditioning(self, batch: SubjectBatch) -> Conditioning:
        """Keys and values of each row's own stage at its timestep."""
        vectors = self.slots(self.slots_of(batch))[VECTORS]
        stage = (batch.timestep * self.stages).div(1000, rounding_mode="floor")
        pair = vectors[torch.arange(len(stage), device=stage.device), stage]
        ids, positions = self.places(batch)
        texts = [self.encode_placed(ids, positions, pair[:, side]) for side in range(self.sides)]
        values = self.value_states(ids, positions, texts[-1].states)[:, None]
        text = texts[0].of_photos(batch.sizes)
        if not self.attention_weight:
            return replace(Conditioning.from_text(text), text_values=values)
        compared = ComparedConditioning.from_text(text, reference=self._plain_states(ids), side=self.attention_side)
        return replace(compared, text_values=values)

    def loss_terms(self, batch: SubjectBatch) -> dict[str, Tensor]:
        """The denoising error, and the weighted attention loss unless its weight is 0."""
        conditioning = self.train_conditioning(batch)
        terms = {"diffusion": self.denoising_error(batch, conditioning).mean()}
        if isinstance(conditioning, ComparedConditioning):
            if not (maps := taken_notes(self.backbone.unet)):
                raise LikenessError(
                    f"model.attention_side {self.attention_side}: no cross-attention layer has such a grid; take the "
                    f"latents' side {self.backbone.latent_shape[1]} or a half, a quarter ... of it"
                )
            terms["attention"] = self.attention_weight * attention_alignment_loss(maps).mean()
        return terms

    def value_states(self, ids: Tensor, positions: Tensor, learnt: Tensor) -> Tensor:
        """``learnt``, but at the subject's places alone where the values behind it are plain."""
        if self.values_behind == "learnt":
            return learnt
        places = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device).scatter(1, positions, True)
        return torch.where(places[..., None], learnt, self._plain_states(ids))

    @torch.no_grad()
    def _plain_states(self, ids: Tensor) -> Tensor:
        """Text states (B, L, D) of tokens (B, L) as they are, with the class nouns."""
        return self.backbone.text(ids).states

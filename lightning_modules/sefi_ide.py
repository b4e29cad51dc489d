"""SeFi-IDE: token vectors per denoising stage, with a key and a value each, from one photo (arXiv 2402.00631).

What the paper states: the base model is frozen; the token V* has five pairs (P_i^K, P_i^V), one for each fifth of the
timesteps, that a self-attention module emits; the text encoder runs once with P_i^K, for the keys of every
cross-attention layer, and once with P_i^V, for the values; an attention loss of weight 0.003 pulls each token's
attention to that of the same sentence with the class noun. Optimiser, rate, steps, the loss's layers and reduction
and how the tokens begin are not known: those are our reconstruction.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from contracts.batch import RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, OWN
from lightning_modules.per_subject import PerSubjectModule
from losses.attention_alignment import attention_alignment_loss
from networks.backbone import Backbone
from networks.placeholders import PlacedPrompt, encode_placed, place_subjects, single_token
from networks.stage_attention import ComparedConditioning, install_stage_attention
from networks.stage_tokens import FreeVectors, StageTokens, TokenEmitter
from networks.subject_tensors import VECTORS, AdapterLayout, Nouns, missing_subjects

CACHED_PROMPTS = 64


class SefiIDE(PerSubjectModule):
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
        self.width = self.backbone.unet.config.cross_attention_dim
        self.shape = (stages, self.sides, tokens_per_subject, self.width)
        self._kind = TokenEmitter if tokens == "module" else FreeVectors
        self._encoded: OrderedDict[tuple, tuple[Tensor, Tensor]] = OrderedDict()
        install_stage_attention(self.backbone.unet)
        self.prepare({}, 0, seed=0)

    # --- a subject -------------------------------------------------------------------------------------------

    def subject_module(self) -> StageTokens:
        return StageTokens(self._kind, self.shape)

    def begin_subject(self, noun: str, known: Mapping[str, Tensor] | None) -> StageTokens:
        """A module that emits the class noun's embedding everywhere, or the ``known`` vectors."""
        module, embedding = self.subject_module(), self.noun_embedding(noun)
        module.start_at(known[VECTORS] if known else embedding.expand(self.shape), embedding)
        return module

    @classmethod
    def check_prompt(cls, prompt: str, nouns: Nouns, layout: AdapterLayout, tokenizer: CLIPTokenizer) -> None:
        """Every subject in the prompt needs as many places as it has tokens."""
        _, _, tokens, _ = layout.shapes[VECTORS]
        place_subjects(tokenizer, prompt, nouns, tokens)

    def allocate(self, nouns: Nouns) -> None:
        """Raises :class:`LikenessError` when a class noun is more than one token."""
        for noun in dict.fromkeys(nouns.values()):
            single_token(self.backbone.tokenizer, noun)
        super().allocate(nouns)

    def on_subjects_changed(self) -> None:
        self._encoded.clear()

    # --- training --------------------------------------------------------------------------------------------

    def train_conditioning(self, batch: SubjectBatch) -> Conditioning:
        """Keys and values of each row's own stage at its timestep."""
        vectors = self.slots(self.slots_of(batch))[VECTORS]
        stage = (batch.timestep * self.stages).div(1000, rounding_mode="floor")
        pair = vectors[torch.arange(len(stage), device=stage.device), stage]
        ids, positions = self._places(batch)
        encoder = self.backbone.text_encoder
        states = [encode_placed(encoder, ids, positions, pair[:, side]) for side in range(self.sides)]
        keys, values = states[0], states[-1]
        if self.attention_weight or self.values_behind == "plain":
            plain = self._plain_states(ids)
            values = _in_places(positions, values, plain) if self.values_behind == "plain" else values
        keys, values = keys[:, None], values[:, None]
        if not self.attention_weight:
            return Conditioning(keys, values)
        return ComparedConditioning(text_keys=keys, text_values=values, reference=plain, side=self.attention_side)

    def loss_terms(self, batch: SubjectBatch) -> dict[str, Tensor]:
        """The denoising error, and the weighted attention loss unless its weight is 0."""
        conditioning = self.train_conditioning(batch)
        terms = {"diffusion": self.denoising_error(batch, conditioning).mean()}
        if isinstance(conditioning, ComparedConditioning):
            if not conditioning.maps:
                raise LikenessError(
                    f"model.attention_side {self.attention_side}: no cross-attention layer has such a grid; take the "
                    f"latents' side {self.backbone.latent_shape[1]} or a half, a quarter ... of it"
                )
            terms["attention"] = self.attention_weight * attention_alignment_loss(conditioning.maps).mean()
        return terms

    def _places(self, batch: SubjectBatch) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) with the class nouns in them and positions (B, tokens) of the subjects' tokens."""
        own = [{OWN: self.subjects.nouns[name]} for name in batch.subjects]
        placed = [self.place(*both) for both in zip(batch.prompts, own, strict=True)]
        device = batch.timestep.device
        positions = torch.tensor([p.every_position for p in placed], device=device)
        return torch.stack([p.ids for p in placed]).to(device), positions

    @torch.no_grad()
    def _plain_states(self, ids: Tensor) -> Tensor:
        """Text states (B, L, D) of tokens (B, L) as they are, with the class nouns."""
        return self.backbone.text_encoder(ids).last_hidden_state

    def place(self, prompt: str, nouns: Nouns) -> PlacedPrompt:
        """``prompt`` as tokens, with as many places for each subject as it has here."""
        return place_subjects(self.backbone.tokenizer, prompt, nouns, self.shape[2])

    # --- requests --------------------------------------------------------------------------------------------

    def noun_embedding(self, noun: str) -> Tensor:
        """The token embedding (D,) of a class noun."""
        return self.backbone.text_encoder.get_input_embeddings().weight[single_token(self.backbone.tokenizer, noun)]

    @torch.no_grad()
    def encode_prompt(self, prompt: str, subject: str) -> tuple[Tensor, Tensor]:
        """Text states for keys and for values, each (stages, L, D), of a prompt with ``<subject>`` in it.

        ``<ID>`` stands for a further subject of the run; each has its own vectors at every stage. The text encoder runs
        once for the keys and once for the values of each stage, and not again for the same prompt.
        """
        wanted = (prompt, subject, self.scale)
        if wanted not in self._encoded:
            names = {name: subject if name == OWN else name for name in ANY_PLACEHOLDER.findall(prompt)}
            if unknown := [name for name in names.values() if name not in self.subjects.known]:
                raise LikenessError(missing_subjects(unknown, self.subjects.known))
            if len(set(names.values())) < len(names):
                raise LikenessError(f"the prompt {prompt!r} has two placeholders for {subject}: one is allowed")
            nouns = {name: self.subjects.nouns[known] for name, known in ({OWN: subject} | names).items()}
            placed = self.place(prompt, nouns)
            vectors = torch.cat([self.scaled(names[name]) for name in placed.positions], dim=2)
            device = vectors.device
            ids = placed.ids.to(device).expand(self.stages * self.sides, -1)
            positions = torch.tensor(placed.every_position, device=device).expand(len(ids), -1)
            states = encode_placed(self.backbone.text_encoder, ids, positions, vectors.flatten(0, 1))
            sides = states.unflatten(0, (self.stages, self.sides))
            values = sides[:, -1]
            if self.values_behind == "plain":
                values = _in_places(positions[: self.stages], values, self._plain_states(ids[: self.stages]))
            self._encoded[wanted] = sides[:, 0], values
            if len(self._encoded) > CACHED_PROMPTS:
                self._encoded.popitem(last=False)
        return self._encoded[wanted]

    def scaled(self, name: str) -> Tensor:
        """Vectors (stages, sides, tokens, D) of a subject, ``scale`` of the way from its class noun."""
        learnt, noun = self.subjects[name][VECTORS], self.noun_embedding(self.subjects.nouns[name])
        return noun + self.scale * (learnt - noun)

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        if self.scale == 0:
            return Conditioning.from_text(batch.text_states)
        encoded = [self.encode_prompt(*both) for both in zip(batch.prompts, batch.subjects, strict=True)]
        keys, values = (torch.stack(states) for states in zip(*encoded, strict=True))
        return Conditioning(keys, values)

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The plain empty prompt, for keys and values of every stage."""
        stages = 1 if self.scale == 0 else self.stages
        empty = self.backbone.encode_text([""]).expand(len(batch.request_ids), stages, -1, -1)
        return Conditioning(empty, empty)


def _in_places(positions: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """States (B, L, D) of ``own`` at ``positions`` (B, P), and of ``other`` everywhere else."""
    places = torch.zeros(own.shape[:2], dtype=torch.bool, device=own.device).scatter(1, positions, True)
    return torch.where(places[..., None], own, other)

"""What the methods share whose subject is token vectors: prompts with the vectors in the places of the subjects."""

from collections import OrderedDict

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from contracts.batch import RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, OWN
from contracts.text import Text
from lightning_modules.base import STEPS
from lightning_modules.per_subject import PerSubjectModule
from networks.placeholders import PlacedPrompt, place_subjects, single_token
from networks.subject_tensors import VECTORS, AdapterLayout, Nouns, missing_subjects

CACHED_PROMPTS = 64


def _forget_oldest(cache: OrderedDict) -> None:
    if len(cache) > CACHED_PROMPTS:
        cache.popitem(last=False)


class TokenVectorModule(PerSubjectModule):
    """Base of the methods that learn vectors (stages, sides, tokens, D) = ``shape`` for each subject.

    D has the embedding widths of all text encoders, side by side. A subject takes ``tokens`` places of a prompt. There
    is one set of vectors for each of the denoising ``stages``, and two ``sides`` where keys and values have vectors of
    their own. An image of two subjects has the vectors of each in its own places of the prompt. ``scale`` leads from
    the class noun's embedding (0, the base model) to the learnt one (1). A constructor sets ``shape`` and ``scale``
    before ``self.prepare``.
    """

    knob = STEPS
    subjects_per_image = 2
    shape: tuple[int, int, int, int]
    scale: float

    @property
    def width(self) -> int:
        """D: the widths of the text encoders' embeddings together."""
        return self.shape[-1]

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
        self._encoded: OrderedDict[tuple, tuple[Text, Tensor]] = OrderedDict()
        self._placed: OrderedDict[tuple, tuple[Tensor, Tensor]] = OrderedDict()

    def noun_embedding(self, noun: str) -> Tensor:
        """The token embedding (D,) of a class noun."""
        return self.backbone.text.embedding(single_token(self.backbone.tokenizer, noun))

    def place(self, prompt: str, nouns: Nouns) -> PlacedPrompt:
        """``prompt`` as tokens, with as many places for each subject as it has here."""
        return place_subjects(self.backbone.tokenizer, prompt, nouns, self.shape[2])

    def places(self, batch: SubjectBatch) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) with the class nouns in them and positions (B, tokens) of the subjects' tokens.

        The same prompts come again in a few steps, and a copy to a GPU would make the processor wait for it.
        """
        wanted = (batch.prompts, batch.subjects, device := batch.timestep.device)
        if wanted not in self._placed:
            own = [{OWN: self.subjects.nouns[name]} for name in batch.subjects]
            placed = [self.place(*both) for both in zip(batch.prompts, own, strict=True)]
            positions = torch.tensor([p.every_position for p in placed], device=device)
            self._placed[wanted] = torch.stack([p.ids for p in placed]).to(device), positions
            _forget_oldest(self._placed)
        return self._placed[wanted]

    def scaled(self, name: str) -> Tensor:
        """Vectors (stages, sides, tokens, D) of a subject, ``scale`` of the way from its class noun."""
        learnt, noun = self.subjects[name][VECTORS], self.noun_embedding(self.subjects.nouns[name])
        return noun + self.scale * (learnt - noun)

    @torch.no_grad()
    def encode_prompt(self, prompt: str, subject: str) -> tuple[Text, Tensor]:
        """A prompt with ``<subject>`` in it at every stage: a text whose states keys are made of, and the states
        (stages, L, D) that values are made of. One without a placeholder names nobody, and is plain text.

        ``<ID>`` stands for a further subject of the run; each has its own vectors at every stage. The text encoders run
        once for every stage and side, and not again for the same prompt. Pooled text is that of the keys: it has no
        sides.
        """
        if not ANY_PLACEHOLDER.search(prompt):
            text = self.backbone.encode_text([prompt]).expand(self.shape[0])
            return text, text.states
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
            stages, sides = self.shape[:2]
            ids = placed.ids.to(device).expand(stages * sides, -1)
            positions = torch.tensor(placed.every_position, device=device).expand(len(ids), -1)
            text = self.encode_placed(ids, positions, vectors.flatten(0, 1))
            values = self.value_states(ids[:stages], positions[:stages], text[sides - 1 :: sides].states)
            self._encoded[wanted] = text[::sides], values
            _forget_oldest(self._encoded)
        return self._encoded[wanted]

    def encode_placed(self, ids: Tensor, positions: Tensor, vectors: Tensor) -> Text:
        """Texts of tokens (B, L) with ``vectors`` (B, P, D) at ``positions`` (B, P)."""
        return self.backbone.text.encode_placed(ids, positions, vectors).of_whole_images(self.backbone.resolution)

    def value_states(self, ids: Tensor, positions: Tensor, learnt: Tensor) -> Tensor:
        """What values are made of (B, L, D), from tokens (B, L) and the states ``learnt`` of the same prompts with the
        subjects' vectors at ``positions`` (B, P)."""
        return learnt

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        if self.scale == 0:
            return Conditioning.from_text(batch.text_states)
        encoded = [self.encode_prompt(*both) for both in zip(batch.prompts, batch.subjects, strict=True)]
        texts, values = zip(*encoded, strict=True)
        return Conditioning.from_stages(texts, torch.stack(values))

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The plain empty prompt, for keys and values of every stage."""
        stages = 1 if self.scale == 0 else self.shape[0]
        empty = self.backbone.encode_text([""]).expand(stages)
        return Conditioning.from_stages([empty] * len(batch.request_ids))

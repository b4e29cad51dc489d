"""DreamBooth-LoRA at its smallest, written on the base of per-subject methods: tens of tensors per subject."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from transformers import CLIPTokenizer

from contracts.batch import RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning, StepConditioning
from contracts.errors import LikenessError
from contracts.prompts import OWN, further_subjects, plain_text
from lightning_modules.per_subject import PerSubjectModule
from losses.diffusion import diffusion_loss
from networks.attention import attention, join_heads, split_heads
from networks.backbone import Backbone
from networks.keyed_noise import keyed_normal
from networks.placeholders import place_subjects
from networks.sampler import SamplingSettings, build_sampler, sample
from networks.subject_tensors import AdapterLayout, Nouns

CLASS_IMAGES = 2


class LoraWeights(nn.Module):
    """The low-rank pair of one subject for each projection: ``NAME.down`` (rank, in) and ``NAME.up`` (out, rank).

    ``sizes`` is (in, out) by projection.
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]], rank: int) -> None:
        super().__init__()
        self.pairs = nn.ParameterDict()
        for name, (inner, outer) in sizes.items():
            self.pairs[f"{name}.down".replace(".", "/")] = nn.Parameter(torch.randn(rank, inner) / rank)
            self.pairs[f"{name}.up".replace(".", "/")] = nn.Parameter(torch.zeros(outer, rank))

    def forward(self) -> dict[str, Tensor]:
        return {name.replace("/", "."): value for name, value in self.pairs.items()}


@dataclass(frozen=True, kw_only=True)
class LoraStep(StepConditioning):
    """What every attention layer reads: the pairs by name, a row (B, ...) for each image."""

    pairs: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class LoraConditioning(Conditioning):
    """``pairs`` are stacked over some subjects, ``rows`` (B,) int64 says whose each image reads."""

    rows: Tensor
    pairs: dict[str, Tensor]

    def at(self, timestep: Tensor) -> LoraStep:
        text = super().at(timestep)
        pairs = {name: stack[self.rows] for name, stack in self.pairs.items()}
        return LoraStep(text_keys=text.text_keys, text_values=text.text_values, identity=None, scale=None, pairs=pairs)


class LoraAttention:
    """The processor of one attention layer, of either kind."""

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        conditioning: StepConditioning | None = None,
    ) -> Tensor:
        """(B, Q, h) to (B, Q, h)."""
        assert conditioning is not None
        own = self.layer.endswith("attn1")
        keys, values = (hidden_states,) * 2 if own else (conditioning.text_keys, conditioning.text_values)

        def project(name: str, layer: nn.Module, x: Tensor) -> Tensor:
            out = layer(x)
            if not isinstance(conditioning, LoraStep):
                return out
            down, up = (conditioning.pairs[f"{self.layer}.{name}.{part}"] for part in ("down", "up"))
            return out + x @ down.mT @ up.mT

        query, key, value = (
            split_heads(attn, project(name, getattr(attn, name), x))
            for name, x in (("to_q", hidden_states), ("to_k", keys), ("to_v", values))
        )
        return attn.to_out[1](project("to_out", attn.to_out[0], join_heads(attention(query, key, value))))


class TinyLora(PerSubjectModule):
    """Low-rank changes of every attention projection, with prior preservation on images that the base model generates
    of the class. The placeholder becomes the class noun."""

    def __init__(
        self,
        backbone: str | Backbone,
        rank: int = 2,
        prior_weight: float = 1.0,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(backbone, None, learning_rate, weight_decay, warmup_steps)
        self.rank = rank
        self.prior_weight = prior_weight
        self.class_latents: dict[str, Tensor] = {}
        layers = [name.removesuffix(".processor") for name in self.backbone.unet.attn_processors]
        self.sizes: dict[str, tuple[int, int]] = {}
        for layer in layers:
            attn = self.backbone.unet.get_submodule(layer)
            for name, part in (
                ("to_q", attn.to_q),
                ("to_k", attn.to_k),
                ("to_v", attn.to_v),
                ("to_out", attn.to_out[0]),
            ):
                self.sizes[f"{layer}.{name}"] = (part.in_features, part.out_features)
        self.backbone.unet.set_attn_processor({f"{layer}.processor": LoraAttention(layer) for layer in layers})
        self.prepare({}, 0, seed=0)

    def subject_module(self) -> LoraWeights:
        return LoraWeights(self.sizes, self.rank)

    def begin_subject(self, noun: str, known: Mapping[str, Tensor] | None) -> LoraWeights:
        module = self.subject_module()
        for name, value in (known or {}).items():
            module.pairs[name.replace(".", "/")].data.copy_(value)
        return module

    @classmethod
    def check_prompt(cls, prompt: str, nouns: Nouns, layout: AdapterLayout, tokenizer: CLIPTokenizer) -> None:
        if further_subjects(prompt):
            raise LikenessError(f"the prompt {prompt!r} names a second subject: an image reads the weights of one")
        place_subjects(tokenizer, prompt, nouns)

    def on_fit_start(self) -> None:
        """The base model generates images of each class, once."""
        settings = SamplingSettings("ddim", steps=2, guidance=1.0)
        for noun in sorted(set(self.subjects.nouns.values())):
            shape = (CLASS_IMAGES, *self.backbone.latent_shape)
            noise = keyed_normal(shape, "class images", self.seed, noun).to(self.device)
            text = self._text([f"a photo of a {noun}"] * CLASS_IMAGES)
            scheduler = build_sampler(settings, self.backbone.scheduler)
            self.class_latents[noun] = sample(self.denoise, scheduler, noise, text, text, settings)

    def loss_terms(self, batch: SubjectBatch) -> dict[str, Tensor]:
        return {**super().loss_terms(batch), "prior": self.prior_weight * self._prior(batch)}

    def _prior(self, batch: SubjectBatch) -> Tensor:
        nouns = [self.subjects.nouns[name] for name in batch.subjects]
        z = torch.stack([self.class_latents[noun][batch.step % CLASS_IMAGES] for noun in nouns])
        noise = torch.stack(
            [keyed_normal(tuple(z.shape[1:]), "prior", self.seed, name, batch.step) for name in batch.subjects]
        ).to(z)
        conditioning = self._changed(batch, [f"a photo of a {noun}" for noun in nouns])
        noisy = self.noising.add_noise(z, noise, batch.timestep)
        return diffusion_loss(self.denoise(noisy, batch.timestep, conditioning), noise).mean()

    def train_conditioning(self, batch: SubjectBatch) -> LoraConditioning:
        nouns = [self.subjects.nouns[name] for name in batch.subjects]
        texts = [plain_text(prompt, {OWN: noun}) for prompt, noun in zip(batch.prompts, nouns, strict=True)]
        return self._changed(batch, texts)

    def conditioning(self, batch: RequestBatch) -> LoraConditioning:
        return self._stored(batch, batch.text_states)

    def null_conditioning(self, batch: RequestBatch) -> LoraConditioning:
        return self._stored(batch, self.backbone.encode_text([""]).expand(len(batch.prompts), -1, -1))

    def _text(self, texts: list[str]) -> Conditioning:
        return Conditioning.from_text(self.backbone.encode_text(texts))

    def _changed(self, batch: SubjectBatch, texts: list[str]) -> LoraConditioning:
        """The texts, with the weights that are trained now."""
        rows = torch.arange(len(texts), device=batch.timestep.device)
        states = self.backbone.encode_text(texts)
        return LoraConditioning.from_text(states, rows=rows, pairs=self.slots(self.slots_of(batch)))

    def _stored(self, batch: RequestBatch, states: Tensor) -> LoraConditioning:
        """Text states (B, L, D), with the weights that each request's subject has."""
        names = sorted(set(batch.subjects))
        known = [self.subjects[name] for name in names]
        pairs = {name: torch.stack([tensors[name] for tensors in known]) for name in self.slots.shapes}
        rows = torch.tensor([names.index(name) for name in batch.subjects], device=states.device)
        return LoraConditioning.from_text(states, rows=rows, pairs=pairs)

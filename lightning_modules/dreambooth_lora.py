"""DreamBooth-LoRA: low-rank changes of the UNet, learnt from a few photos under an identifier and the class noun.

DreamBooth (Ruiz et al., arXiv 2208.12242) binds a rare identifier to the subject ("a photo of a sks dog") and keeps the
class by prior preservation: the base model's own images of the class are trained on beside the photos, with weight 1
(its equation 2). LoRA (Hu et al., arXiv 2106.09685, through peft) changes the weights here, as is common: those of the
attentions' projections, with the text encoder frozen. Ours: subjects share batches, each step takes one photo and one
class image of each, the class images stay latents, and gradients are clipped per subject.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import CLIPTokenizer

from contracts.batch import RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.prompts import ANY_PLACEHOLDER, OWN, plain_text
from contracts.text import Text
from lightning_modules.per_subject import PerSubjectModule
from losses.diffusion import diffusion_loss
from networks.adapter_file import check_adapter, read_adapter
from networks.backbone import Backbone
from networks.class_images import ClassImages
from networks.keyed_noise import keyed_generator
from networks.placeholders import check_worded
from networks.sampler import SamplingSettings, build_sampler, sample
from networks.stage_attention import install_stage_attention
from networks.subject_lora import BatchedLora, LoraConditioning, LoraPairs, target_layers
from networks.subject_tensors import AdapterLayout, Nouns

ATTENTIONS = ("to_q", "to_k", "to_v", "to_out.0")
CLASS_PROMPT = "a photo of a {}"
MOST_TOKENS = 3
"""Of an identifier; the paper takes one to three."""


class DreamBoothLoRA(PerSubjectModule):
    """LoRA weights for one subject or many, optimised together without touching one another.

    ``rank``, ``alpha`` and ``target_modules`` are peft's; alpha is the rank unless it is given. ``identifier`` stands
    before the class noun wherever the subject is meant. ``prior_weight`` scales the error on the class images, of which
    there are ``class_images``, generated in ``class_steps`` at ``class_guidance``; 0 leaves them out. ``scale`` is the
    strength of the change when images are generated; 0 is the base model.
    """

    def __init__(
        self,
        backbone: str | Backbone,
        revision: str | None = None,
        rank: int = 4,
        alpha: float | None = None,
        target_modules: list[str] | str = list(ATTENTIONS),  # noqa: B006 - read only, and shown as the default
        identifier: str = "sks",
        prior_weight: float = 1.0,
        class_images: int = 200,
        class_steps: int = 25,
        class_guidance: float = 7.5,
        scale: float = 1.0,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        for name, value in (("rank", rank), ("class_images", class_images)):
            if value < 1:
                raise LikenessError(f"model.{name} is {value}, it must be at least 1")
        self.rank, self.alpha, self.scale = rank, float(rank if alpha is None else alpha), scale
        self.identifier, self.prior_weight = identifier, prior_weight
        self._check_identifier()
        self._class_images = class_images
        self._class_sampling = SamplingSettings("dpm-solver++", class_steps, class_guidance)
        self._class_latents: dict[str, Tensor] = {}
        self._class_seconds = 0.0
        self.config = LoraConfig(r=rank, lora_alpha=self.alpha, target_modules=target_modules)  # type: ignore[arg-type]
        self.sizes = target_layers(self.backbone.unet, self.config)
        install_stage_attention(self.backbone.unet)
        self._lora = BatchedLora(self.backbone.unet, list(self.sizes), self.scaling)
        self.prepare({}, 0, seed=0)

    @property
    def scaling(self) -> float:
        """What a pair's product is multiplied by: alpha / rank."""
        return self.alpha / self.rank

    # --- a subject -------------------------------------------------------------------------------------------

    def subject_module(self) -> LoraPairs:
        return LoraPairs(self.sizes, self.rank)

    def begin_subject(self, noun: str, known: Mapping[str, Tensor] | None) -> LoraPairs:
        module = self.subject_module()
        module.start_at(known or {})
        return module

    @classmethod
    def check_prompt(cls, prompt: str, nouns: Nouns, layout: AdapterLayout, tokenizer: CLIPTokenizer) -> None:
        """An image reads the weights of one subject."""
        check_worded(tokenizer, prompt, called(layout.metadata["identifier"], nouns[OWN]))

    def adapter_metadata(self) -> dict[str, str]:
        return {**super().adapter_metadata(), "identifier": self.identifier, "alpha": f"{self.alpha:g}"}

    def _check_identifier(self) -> None:
        count = len(self.backbone.tokenizer(self.identifier, add_special_tokens=False).input_ids)
        if not 1 <= count <= MOST_TOKENS or not self.identifier.isalnum():
            raise LikenessError(
                f"model.identifier {self.identifier!r} is {count} tokens of this text encoder: give a word of letters "
                f"and digits that is {MOST_TOKENS} tokens at most, such as sks"
            )

    # --- class images ----------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Generate the class images that the cache lacks, the work divided over the processes of a machine."""
        if not self.prior_weight:
            return
        start, trainer = time.monotonic(), self.trainer
        images = self._kept_in(trainer.datamodule.cache_folder, trainer.precision)  # type: ignore[attr-defined]
        quiet = trainer.progress_bar_callback is None or not trainer.is_global_zero
        with trainer.precision_plugin.forward_context():
            images.generate(self._class_texts(), self._draw, trainer.local_rank, trainer.num_devices, quiet)
        trainer.strategy.barrier("class images")
        self._class_latents = {text: images.load(text) for text in self._class_texts()}
        self._class_seconds = time.monotonic() - start

    def make_class_images(self, cache: Path) -> None:
        """The same for this process alone, outside of a training."""
        images = self._kept_in(cache, "32-true")
        images.generate(self._class_texts(), self._draw, 0, 1, quiet=True)
        self._class_latents = {text: images.load(text) for text in self._class_texts()}

    def _kept_in(self, cache: Path, precision: str) -> ClassImages:
        shape, count = self.backbone.latent_shape, self._class_images
        return ClassImages(
            cache / "class_images", self.backbone.fingerprint, shape, count, self._class_sampling, str(precision)
        )

    def _class_texts(self) -> list[str]:
        return sorted({CLASS_PROMPT.format(noun) for noun in self.subjects.nouns.values()})

    def _draw(self, text: str, noise: Tensor) -> Tensor:
        """The base model's latents (B, C, h, w) of a text."""
        said, null = (Conditioning.from_text(self._read([words] * len(noise))) for words in (text, ""))
        scheduler = build_sampler(self._class_sampling, self.backbone.scheduler)
        return sample(self.denoise, scheduler, noise.to(self.device), said, null, self._class_sampling)

    # --- training --------------------------------------------------------------------------------------------

    def denoise(self, z: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The prediction of the UNet with each row's weights, or of the base model."""
        with self._lora.reading(conditioning if isinstance(conditioning, LoraConditioning) else None):
            return super().denoise(z, t, conditioning)

    def train_conditioning(self, batch: SubjectBatch) -> LoraConditioning:
        nouns = [self.subjects.nouns[name] for name in batch.subjects]
        both = zip(batch.prompts, nouns, strict=True)
        texts = [plain_text(p, {OWN: called(self.identifier, noun)}) for p, noun in both]
        return self._changed(batch, self._read(texts).of_photos(batch.sizes))

    def loss_terms(self, batch: SubjectBatch) -> dict[str, Tensor]:
        """The error on the photos, and the weighted one on the class images unless the weight is 0, in one call."""
        if not self.prior_weight:
            return super().loss_terms(batch)
        texts = [CLASS_PROMPT.format(self.subjects.nouns[name]) for name in batch.subjects]
        z, noise, timestep = self._class_batch(batch, texts)
        both = zip(self.noisy_and_target(batch), self.noised(z, noise, timestep), strict=True)
        noisy, target = (torch.cat(parts) for parts in both)
        conditioning = self.train_conditioning(batch) + self._changed(batch, self._read(texts))
        prediction = self.denoise(noisy, torch.cat([batch.timestep, timestep]), conditioning)
        error, prior = diffusion_loss(prediction, target).chunk(2)
        return {"diffusion": error.mean(), "prior": self.prior_weight * prior.mean()}

    def _class_batch(self, batch: SubjectBatch, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """A class image for each row, its noise and its timestep, keyed by subject and step."""
        rows = []
        for name, text in zip(batch.subjects, texts, strict=True):
            generator, latents = keyed_generator("prior", self.seed, name, batch.step), self._class_latents[text]
            which, timestep = (torch.randint(n, (), generator=generator) for n in (len(latents), 1000))
            rows.append((latents[which], torch.randn(latents.shape[1:], generator=generator), timestep))
        z, noise, timestep = (torch.stack(parts).to(batch.timestep.device) for parts in zip(*rows, strict=True))
        return z.to(batch.moments), noise.to(batch.moments), timestep

    def _changed(self, batch: SubjectBatch, text: Text) -> LoraConditioning:
        """B texts, with the weights that are trained now."""
        rows = torch.arange(len(text), device=batch.timestep.device)
        return LoraConditioning.from_text(text, rows=rows, pairs=self.slots(self.slots_of(batch)))

    def _read(self, texts: Sequence[str]) -> Text:
        """B texts; the text encoders run once for each different one."""
        different = list(dict.fromkeys(texts))
        encoded = self.backbone.encode_text(different)
        return encoded[torch.tensor([different.index(text) for text in texts], device=encoded.device)]

    # --- requests --------------------------------------------------------------------------------------------

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        if self.scale == 0:
            return Conditioning.from_text(batch.text_states)
        for prompt, name in zip(batch.prompts, batch.subjects, strict=True):
            self.subjects[name]  # names whom the run lacks
            if ANY_PLACEHOLDER.search(prompt):  # else it names nobody
                self._check_own(prompt, {OWN: self.subjects.nouns[name]})
        names = [called(self.identifier, self.subjects.nouns[name]) for name in batch.subjects]
        texts = [plain_text(p, {OWN: name}) for p, name in zip(batch.prompts, names, strict=True)]
        return self._stored(batch, self._read(texts))

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The empty text, with the same weights."""
        empty = self._read([""] * len(batch.request_ids))
        return Conditioning.from_text(empty) if self.scale == 0 else self._stored(batch, empty)

    def _stored(self, batch: RequestBatch, text: Text) -> LoraConditioning:
        """B texts, with the weights that each request's subject has."""
        names = sorted(set(batch.subjects))
        known = [self.subjects[name] for name in names]
        pairs = {name: torch.stack([tensors[name] for tensors in known]).to(text.device) for name in self.slots.shapes}
        rows = torch.tensor([names.index(name) for name in batch.subjects], device=text.device)
        return LoraConditioning.from_text(text, rows=rows, pairs=pairs, strength=self.scale)

    # --- files -----------------------------------------------------------------------------------------------

    def load_adapter(self, path: Path) -> None:
        """Also raises :class:`LikenessError` for weights that mean something else here, as ``alpha`` and ``identifier``
        differ."""
        _, metadata = read_adapter(path)
        check_adapter(path, metadata, type(self).__name__, self.backbone.fingerprint)
        for name in ("alpha", "identifier"):
            if (ours := self.adapter_metadata()[name]) != metadata.get(name):
                raise LikenessError(
                    f"{str(path)!r} was trained with model.{name} {metadata.get(name)}, this is {ours}: give that one"
                )
        super().load_adapter(path)

    def run_facts(self) -> dict[str, Any]:
        """Also how many class images there are of each class, and the seconds that this start took to have them."""
        count = self._class_images if self._class_latents else 0
        return {**super().run_facts(), "class_images": count, "class_image_seconds": round(self._class_seconds, 2)}


def called(identifier: str, noun: str) -> str:
    """How a prompt names a subject."""
    return f"{identifier} {noun}"

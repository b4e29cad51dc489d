"""PIDiff: identity through StyleGAN's W+ space, localised on the face (arXiv 2505.05081).

The paper's body could not be read: what is built here is PIDiff-R, a labelled reconstruction from its abstract on the
published mechanism of W+ Adapter (arXiv 2311.17461). Stage 1 trains mapper and attention to generate an aligned face
from its own code; stage 2 freezes the mapper and tunes the attention on whole images, with losses that keep identity in
the face and the base model everywhere else. A third, short phase for one person is optional.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from contracts.batch import FaceBatch, FactorBatch, PairBatch, RequestBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.text import Text
from lightning_modules.base import PersonalisationModule
from losses.attention_leak import attention_leak
from losses.diffusion import diffusion_loss
from losses.disentanglement import disentanglement_loss
from losses.localisation import face_loss
from losses.preservation import preservation_loss
from networks.attention import taken_notes
from networks.backbone import Backbone
from networks.decoupled_attention import MeasuredConditioning, install_decoupled_attention
from networks.residual_attention import freeze_queries, install_residual_attention
from networks.wplus_mapper import Levels, WPlusMapper


class PIDiff(PersonalisationModule[PairBatch]):
    """Identity tokens from a W+ code, one group of tokens for each level of it.

    ``code_rows`` and ``code_width`` are the shape of the encoder's codes. ``levels`` is ``three`` (coarse, middle,
    fine) or the ``four`` groups of W+ Adapter. ``attention`` is the ``residual`` block, whose query is made from the
    text-attended values, or the ``decoupled`` one that shares the text's query (ablation).

    ``centred`` takes the training set's mean code off every code (ours), ``tokens_per_level`` is W+ Adapter's at 1.
    ``mapper_hidden`` gives each level's map a hidden layer of that many channels (ours; linear without).

    Stage 2 minimises L_face + ``background_weight`` L_bg + ``disentanglement_weight`` L_dis + ``attention_weight``
    L_att. With ``localised`` false L_face and L_bg cover the whole image, as in W+ Adapter, whose released weights
    are then 1 for ``background_weight``, 2 for ``disentanglement_weight`` and 0 for ``attention_weight``.
    ``train_query`` and ``train_mapper`` train W_q+ and the mapper in stage 2 too.

    ``scale`` is the strength of the identity branch when images are generated; 0 is the base model. ``delay`` in 0..1
    is the share of the noise levels, from the noisiest on, at which identity takes no part.
    """

    needs = ("wplus",)

    def __init__(
        self,
        backbone: str | Backbone,
        code_rows: int = 18,
        code_width: int = 512,
        revision: str | None = None,
        levels: Levels = "three",
        tokens_per_level: int = 1,
        mapper_hidden: int | None = None,
        centred: bool = False,
        attention: Literal["residual", "decoupled"] = "residual",
        localised: bool = True,
        background_weight: float = 1.0,
        disentanglement_weight: float = 0.5,
        attention_weight: float = 0.01,
        train_query: bool = False,
        train_mapper: bool = False,
        scale: float = 1.0,
        delay: float = 0.0,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        if not isinstance(delay, int | float) or not 0.0 <= delay <= 1.0:
            raise LikenessError(f"model.delay is {delay!r}, it must be a share in 0..1")
        for name, value in (
            ("scale", scale),
            ("background_weight", background_weight),
            ("disentanglement_weight", disentanglement_weight),
            ("attention_weight", attention_weight),
        ):
            # A run's config.yaml is read back without the parser's types: 1e6 is text in YAML.
            if not isinstance(value, int | float) or not 0.0 <= value < math.inf:
                raise LikenessError(f"model.{name} is {value!r}, it must be a number, 0 or more")
        self.code_shape, self.localised, self.centred = (code_rows, code_width), localised, centred
        self.train_query, self.train_mapper = train_query, train_mapper
        self.background_weight, self.disentanglement_weight = background_weight, disentanglement_weight
        self.attention_weight, self.scale, self.delay = attention_weight, scale, delay
        width = self.backbone.unet.config.cross_attention_dim
        self.mapper = WPlusMapper(code_rows, code_width, width, levels, tokens_per_level, mapper_hidden)
        install = install_residual_attention if attention == "residual" else install_decoupled_attention
        self.attention = install(self.backbone.unet)

    def check_features(self, shape_of: Callable[[str], tuple[int, ...]]) -> None:
        shape = shape_of("wplus")
        if shape != self.code_shape:
            raise LikenessError(
                f"model.code_rows and model.code_width say {self.code_shape[0]} x {self.code_shape[1]}, the codes of "
                f"the W+ encoder are {shape[0]} x {shape[1]}"
            )

    def on_fit_start(self) -> None:
        """Set the mean code (on resuming, the checkpoint's replaces it)."""
        if self.centred and not self.mapper.mean.any():
            self.mapper.mean.copy_(self.trainer.datamodule.feature_mean("wplus"))  # type: ignore[attr-defined]

    def adapter(self) -> nn.ModuleDict:
        return nn.ModuleDict({"mapper": self.mapper, "attention": self.attention})

    # --- conditioning ----------------------------------------------------------------------------------------

    def identity_tokens(self, codes: Tensor, dropped: Tensor | None = None) -> Tensor:
        """W+ codes (B, rows, width) to tokens (B, N, token width); those of nobody, F_w(0), where ``dropped`` (B,)."""
        tokens = self.mapper(codes)
        if dropped is None:
            return tokens
        return torch.where(dropped[:, None, None], self.mapper.nobody(len(codes)), tokens)

    def train_conditioning(self, batch: PairBatch | FaceBatch) -> Conditioning:
        tokens = self.identity_tokens(batch.reference["wplus"], batch.drop_identity)
        return Conditioning.from_text(batch.text_states, identity=tokens)

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        return self._generating(batch.text_states, self.identity_tokens(batch.reference["wplus"]))

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        empty = self.backbone.encode_text([""]).expand(len(batch.request_ids))
        return self._generating(empty, self.mapper.nobody(len(batch.request_ids)))

    def _generating(self, text: Text, tokens: Tensor) -> Conditioning:
        until = round(1000 * (1 - self.delay))
        return Conditioning.from_text(text, identity=tokens, scale=self.scale, identity_until=until)

    # --- losses ----------------------------------------------------------------------------------------------

    def loss_terms(self, batch: PairBatch | FaceBatch | FactorBatch) -> dict[str, Tensor]:
        """Stage 1 on a :class:`FaceBatch`, stage 2 on a :class:`PairBatch`."""
        if isinstance(batch, FactorBatch):
            raise LikenessError("PIDiff has no experts: its data.first_stage is a FaceStage, see configs/pidiff.yaml")
        if isinstance(batch, FaceBatch):
            freeze_queries(self.attention, False)
            return {"diffusion": self.denoising_error(batch, self.train_conditioning(batch)).mean()}
        freeze_queries(self.attention, not self.train_query)
        return self.localised_terms(batch)

    def localised_terms(self, batch: PairBatch) -> dict[str, Tensor]:
        """Stage 2: the three-forward step. Both targets are predicted without a graph."""
        if batch.face is None:
            raise ValueError("stage 2 needs the face's mask")
        noisy, target = self.noisy_and_target(batch)
        text, t, face = Conditioning.from_text(batch.text_states), batch.timestep, batch.face
        with torch.no_grad():  # targets come first, while no graph is held
            base, other = self.denoise(noisy, t, text), None
            if batch.other and self.disentanglement_weight:  # a run on one person has nobody else
                tokens = self.identity_tokens(batch.other["wplus"], batch.drop_identity)
                other = self.denoise(noisy, t, replace(text, identity=tokens))
        with torch.set_grad_enabled(self.train_mapper and torch.is_grad_enabled()):
            tokens = self.identity_tokens(batch.reference["wplus"], batch.drop_identity)
        identity = MeasuredConditioning.from_text(batch.text_states, identity=tokens)
        prediction = self.denoise(noisy, t, identity)
        lengths = taken_notes(self.backbone.unet)
        outside = 1.0 - face if self.localised else torch.ones_like(face)
        error = face_loss(prediction, target, face) if self.localised else diffusion_loss(prediction, target)
        terms = {
            "diffusion": error.mean(),
            "background": self.background_weight * preservation_loss(prediction, base, outside).mean(),
            "attention": self.attention_weight * self._leak(lengths, face).mean(),
        }
        if other is not None:
            change = disentanglement_loss(prediction, other, face).mean()
            terms["disentanglement"] = self.disentanglement_weight * change
        return terms

    def _leak(self, norms: list[Tensor], face: Tensor) -> Tensor:
        """L_att (B,), the mean over the layers on half and on a quarter of the latent's side (32 and 16 of 64)."""
        sides = [face.shape[-1] // part for part in (2, 4)]
        leaks = [attention_leak(norm, face) for norm in norms if norm.shape[1] in {side**2 for side in sides}]
        if leaks:
            return torch.stack(leaks).mean(0)
        if self.attention_weight:
            raise LikenessError(
                f"model.attention_weight {self.attention_weight}: no cross-attention layer has a grid of {sides[0]} or "
                f"{sides[1]} cells a side, a half or a quarter of the latents' side {face.shape[-1]}; take it away (0)"
            )
        return face.new_zeros(len(face))

"""What is the same for every method: frozen backbone, noising, target, loss terms, sampling."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning as L
import torch
from diffusers import DDPMScheduler
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from contracts.batch import FaceBatch, PairBatch, RequestBatch, SubjectBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.settings import ReferenceTokens
from losses.diffusion import diffusion_loss
from networks.adapter_file import apply_adapter, misfit, save_adapter
from networks.backbone import Backbone, load_backbone
from networks.optimiser import adamw_in_8_bits
from networks.sampler import SamplingSettings, build_sampler, sample

STEPS = "steps"
NOT_TRAINED_WITH = frozenset({"backbone", "revision", "scale", "delay"})
"""Arguments that decide no step of training: where the base model lies, and how a method generates."""

Batch = TypeVar("Batch", bound=PairBatch | SubjectBatch)
"""What a method trains on: pairs of photos, or subjects that are optimised."""


class PersonalisationModule(L.LightningModule, Generic[Batch]):
    """Base of the methods. A method says what it trains (:meth:`adapter`), what its loss terms are
    (:meth:`loss_terms`) and what the UNet is conditioned on (:meth:`train_conditioning`, :meth:`conditioning`).

    ``needs`` names the reference features that a method reads from a batch; ``enrols`` says that it trains on subjects
    (``data.enrolment``) and not on pairs.
    """

    knob: str = "scale"
    """What a sweep turns from little of the subject to all of it: a constructor argument, or ``STEPS``, the share of
    the steps of enrolment."""
    subjects_per_image: int = 1
    """How many subjects one image can show, each by the method's own mechanism."""
    needs: tuple[str, ...] = ()
    enrols: bool = False
    trains_in_parts: bool = True
    """Whether a step may leave some of what is trained without a gradient: several processes must look for it then."""
    optimiser_in_8_bits: bool = False
    """Whether AdamW keeps its two moments in 8 bits."""

    def __init__(
        self,
        backbone: str | Backbone,
        revision: str | None = None,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["backbone"] if isinstance(backbone, Backbone) else [])
        self.backbone = load_backbone(backbone, revision) if isinstance(backbone, str) else backbone
        self.noising = DDPMScheduler.from_config(self.backbone.scheduler.config)
        self.learning_rate, self.weight_decay, self.warmup_steps = learning_rate, weight_decay, warmup_steps
        self.sampling = SamplingSettings()
        self.reference_tokens: ReferenceTokens = "average"

    # --- what a method answers -------------------------------------------------------------------------------

    def adapter(self) -> nn.ModuleDict:
        """Everything the method trains, by name; this and nothing else goes into ``adapter.safetensors``."""
        raise NotImplementedError

    def train_conditioning(self, batch: Batch) -> Conditioning:
        """What the UNet is conditioned on for a training batch."""
        raise NotImplementedError

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        """What the UNet is conditioned on for requests."""
        raise NotImplementedError

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The unconditional branch of guidance for the same requests."""
        raise NotImplementedError

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, weighted; their sum is minimised."""
        return {"diffusion": self.denoising_error(batch, self.train_conditioning(batch)).mean()}

    def check_features(self, shape_of: Callable[[str], tuple[int, ...]]) -> None:
        """Raise :class:`LikenessError` for reference features of another shape than the method takes.

        The DataModule calls this before it encodes anything; ``shape_of`` says the shape of a feature by its name.
        """

    def adapter_metadata(self) -> dict[str, str]:
        """What the adapter file says besides method and backbone."""
        return {}

    def run_facts(self) -> dict[str, Any]:
        """What the run's manifest says about the method's cost."""
        return {"trainable_parameters": sum(p.numel() for p in self.adapter().parameters() if p.requires_grad)}

    # --- what is the same for all ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Raises :class:`LikenessError` when the data are not of the kind that the method trains on."""
        given = getattr(self.trainer.datamodule, "enrolment", None) is not None  # type: ignore[attr-defined]
        if stage == "fit" and given != self.enrols:
            what = (
                "is missing: it optimises per subject" if self.enrols else "is given: it trains on pairs; take it away"
            )
            raise LikenessError(f"{type(self).__name__}: data.enrolment {what} (see configs/ for each method's data)")

    def denoise(self, z: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction (B, C, h, w) for noisy latents ``z`` at timesteps ``t`` (B,)."""
        step = conditioning.at(t)
        return self.backbone.unet(
            z, t, **step.for_unet(), cross_attention_kwargs={"conditioning": step}, return_dict=False
        )[0]

    def noisy_and_target(self, batch: PairBatch | FaceBatch | SubjectBatch) -> tuple[Tensor, Tensor]:
        """Noisy latents (B, C, h, w) and what the UNet should predict for them: noise or velocity, as the base model
        was trained."""
        z = self.backbone.latents_from_moments(batch.moments, batch.latent_noise)
        return self.noised(z, batch.noise, batch.timestep)

    def noised(self, z: Tensor, noise: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``z`` with ``noise``, both (B, C, h, w), at ``timestep`` (B,), and the UNet's target for them."""
        noisy = self.noising.add_noise(z, noise, timestep)
        if self.noising.config.prediction_type == "v_prediction":
            return noisy, self.noising.get_velocity(z, noise, timestep)
        return noisy, noise

    def denoising_error(self, batch: PairBatch | FaceBatch | SubjectBatch, conditioning: Conditioning) -> Tensor:
        """Squared error per sample (B,) of the prediction for the batch's noisy latents."""
        noisy, target = self.noisy_and_target(batch)
        return diffusion_loss(self.denoise(noisy, batch.timestep, conditioning), target)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        terms = self.loss_terms(batch)
        total = torch.stack(list(terms.values())).sum()
        if self.logs_next_step():
            size = len(batch.sample_ids)
            self._forget_other_terms(terms)
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=size)
            self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        return total

    def logs_next_step(self) -> bool:
        """Whether the step that is being taken is written: each call of ``log`` costs as much as a layer of a small
        network."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and (self.global_step + 1) % every == 0

    def _forget_other_terms(self, terms: Mapping[str, Tensor]) -> None:
        """Lightning writes the last value of everything that was logged in an epoch, and an epoch has all stages."""
        results = self.trainer.fit_loop.epoch_loop._results
        prefix = "training_step.train/"
        for key in [k for k in results if k.startswith(prefix) and k.removeprefix(prefix) not in {*terms, "loss"}]:
            del results[key]

    @torch.no_grad()
    def generate(self, batch: RequestBatch) -> Tensor:
        """Images (B, H, W, 3) uint8 for the requests, by ``sampling``."""
        scheduler = build_sampler(self.sampling, self.backbone.scheduler)
        told, null = (self._of_all(batch, conditioning) for conditioning in (self.conditioning, self._null))
        return self.backbone.decode(sample(self.denoise, scheduler, batch.noise, told, null, self.sampling))

    def _of_all(self, batch: RequestBatch, conditioning: Callable[[RequestBatch], Conditioning]) -> Conditioning:
        """What ``conditioning`` says of every reference: of one subject as ``reference_tokens`` has it, of two subjects
        side by side."""
        each = [
            Conditioning.of_references([conditioning(one) for one in own.by_reference()], self.reference_tokens)
            for own in batch.by_subject()
        ]
        return Conditioning.of_references(each, "all")

    def _null(self, batch: RequestBatch) -> Conditioning:
        """:meth:`null_conditioning`, whose empty text gives way to a negative prompt."""
        null = self.null_conditioning(batch)
        if not self.sampling.negative_prompt:
            return null
        text = self.backbone.encode_text([self.sampling.negative_prompt])
        states = text.states[:, None].expand_as(null.text_keys)
        pooled = None if text.pooled is None else text.pooled[:, None].expand(null.batch, states.shape[1], -1)
        return replace(null, text_keys=states, text_values=states, pooled=pooled)

    def validation_step(self, batch: RequestBatch, batch_idx: int) -> Tensor:
        """The images of the batch; a callback judges them."""
        return self.generate(batch)

    def predict_step(self, batch: RequestBatch, batch_idx: int) -> Tensor:
        return self.generate(batch)

    def parameter_groups(self) -> list[dict]:
        """Optimiser groups; a method overrides it where parts learn at rates of their own."""
        return [{"params": [p for p in self.adapter().parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        groups, rate, decay = self.parameter_groups(), self.learning_rate, self.weight_decay
        optimiser: torch.optim.Optimizer
        if self.optimiser_in_8_bits:
            optimiser = adamw_in_8_bits(groups, self.device, lr=rate, weight_decay=decay)
        else:
            fused = self.device.type in {"cpu", "cuda"} and not self._scales_gradients()
            optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=fused)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": self._schedule(optimiser), "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning refuses to clip for a fused optimiser, which is right only where gradients are scaled (float16)."""
        if not gradient_clip_val or self._scales_gradients():
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        clip = nn.utils.clip_grad_value_ if gradient_clip_algorithm == "value" else nn.utils.clip_grad_norm_
        clip([p for g in optimizer.param_groups for p in g["params"]], gradient_clip_val)

    def _scales_gradients(self) -> bool:
        return self.trainer.precision == "16-mixed"

    def schedule_length(self) -> int:
        """Steps after which the learning rate's schedule is through (and begins anew); -1 when that is open."""
        return self.trainer.max_steps

    def _schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        """Linear warm-up, then a cosine to a tenth of the rate at the end (constant when that is open)."""
        last = self.schedule_length()

        def rate(step: int) -> float:
            step = step % last if last > 0 else step
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            if last <= self.warmup_steps:
                return 1.0
            share = min(1.0, (step - self.warmup_steps) / (last - self.warmup_steps))
            return 0.1 + 0.45 * (1 + math.cos(math.pi * share))

        return torch.optim.lr_scheduler.LambdaLR(optimiser, rate)

    def save_adapter(self, path: Path) -> bool:
        """Write the adapter file, and say whether anything was trained by now that could be written.

        Raises :class:`LikenessError` when it cannot be written.
        """
        names = {"method": type(self).__name__, "backbone": self.backbone.fingerprint}
        save_adapter(path, self.adapter(), names | self.adapter_metadata())
        return True

    def load_adapter(self, path: Path) -> None:
        """Take over an adapter file, strictly; raises :class:`LikenessError` naming what does not fit."""
        apply_adapter(path, self.adapter(), type(self).__name__, self.backbone.fingerprint)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Frozen weights stay out of checkpoints; the backbone's fingerprint goes in."""
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith("backbone.")}
        checkpoint["backbone_fingerprint"] = self.backbone.fingerprint

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Refuse a checkpoint of another backbone."""
        trained_for = checkpoint.get("backbone_fingerprint", "an unknown backbone")
        if trained_for != self.backbone.fingerprint:
            raise LikenessError(
                f"the checkpoint was trained for backbone {trained_for[:12]}, this one is "
                f"{self.backbone.fingerprint[:12]}: give the backbone it was trained with, or another --output"
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Strict for what a checkpoint holds: everything but the frozen backbone.

        Raises :class:`LikenessError` naming an entry that is missing, unknown or of another shape.
        """
        frozen = {f"backbone.{k}": v for k, v in self.backbone.state_dict().items()}
        whole = {**frozen, **state_dict}
        try:
            return super().load_state_dict(whole, strict=strict, assign=assign)
        except RuntimeError as error:
            raise LikenessError(
                f"the checkpoint does not fit these model settings: {misfit(self.state_dict(), whole)}; take another "
                "--output, or the settings it was made with"
            ) from error

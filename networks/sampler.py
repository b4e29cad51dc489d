"""The sampler loop: noise to latents under classifier-free guidance, both branches in one UNet call."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

from contracts.conditioning import Conditioning
from contracts.errors import LikenessError

_SAMPLERS: dict[str, tuple[Any, dict]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "dpm-solver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}


@dataclass(frozen=True)
class SamplingSettings:
    """How images are generated."""

    sampler: str = "dpm-solver++"
    """``ddim`` (eta 0) or ``dpm-solver++`` (second order, multistep). Both are deterministic given the noise."""
    steps: int = 12
    guidance: float = 3.0
    """Scale of classifier-free guidance; 1 leaves the unconditional branch out."""
    negative_prompt: str = ""
    """What guidance leads away from: the text of the unconditional branch."""

    def __post_init__(self) -> None:
        if self.sampler not in _SAMPLERS:
            raise LikenessError(
                f"sampling.sampler: unknown sampler {self.sampler!r}; choose one of {', '.join(_SAMPLERS)}"
            )
        if self.steps < 1:
            raise LikenessError(f"sampling.steps: must be at least 1, not {self.steps}")
        if not math.isfinite(self.guidance):
            raise LikenessError(f"sampling.guidance: must be a finite number, not {self.guidance}")
        if self.negative_prompt and self.guidance == 1.0:
            raise LikenessError("sampling.guidance: 1 leaves out the branch that reads the negative prompt: raise it")


def build_sampler(settings: SamplingSettings, training_scheduler: SchedulerMixin) -> SchedulerMixin:
    """A fresh diffusers scheduler with the base model's noise schedule and prediction type.

    Schedulers keep state between steps, so every batch needs its own.
    """
    kind, options = _SAMPLERS[settings.sampler]
    return kind.from_config(training_scheduler.config, **options)


@torch.no_grad()
def sample(
    denoise: Callable[[Tensor, Tensor, Conditioning], Tensor],
    scheduler: SchedulerMixin,
    noise: Tensor,
    conditioning: Conditioning,
    null: Conditioning,
    settings: SamplingSettings,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Tensor:
    """Latents (B, C, h, w), scaled as the UNet knows them, from ``noise`` of the same shape.

    ``denoise(z, t, conditioning)`` is the UNet's prediction for z (B, C, h, w) at t (B,); ``null`` is the
    unconditional branch. Nothing here depends on which images share a batch.
    """
    # The scheduler looks its tables up by timesteps on the CPU: on a GPU every step would wait for all before it.
    scheduler.set_timesteps(settings.steps)
    times = scheduler.timesteps.to(noise.device)
    guided = settings.guidance != 1.0
    both = null + conditioning if guided else conditioning
    latents = noise * scheduler.init_noise_sigma
    for t, time in progress(list(zip(scheduler.timesteps, times, strict=True))):
        model_input = scheduler.scale_model_input(latents, t)
        if guided:
            model_input = torch.cat([model_input, model_input])
        prediction = denoise(model_input, time.expand(len(model_input)), both)
        if guided:
            unconditional, conditional = prediction.chunk(2)
            prediction = unconditional + settings.guidance * (conditional - unconditional)
        latents = scheduler.step(prediction, t, latents, return_dict=False)[0]
    return latents

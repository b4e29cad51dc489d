"""Classifier-free guidance: one image sampled with both branches in one UNet call against a call for each."""

import torch
from torch import Tensor

from contracts.batch import RequestBatch
from lightning_modules.spotdiff import SpotDiff
from networks.sampler import build_sampler, sample
from performance.models import pocket_models, request_batch, spotdiff
from performance.timing import Result, Rounds, compare

GOAL = 1.2


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per image without decoding, at batch 1; reference / ours."""
    backbone, images = pocket_models()
    model = spotdiff(backbone, images.width).eval()
    batch = request_batch(model, 1, images.width)
    rounds = compare(lambda: one_call(model, batch), lambda: two_calls(model, batch), rounds)
    ours, reference = 1000 * rounds.ours, 1000 * rounds.reference
    return Result(
        "guidance in one call", ours, reference, reference / ours, GOAL, "higher", "ms/image", rounds.self_ratio
    )


@torch.no_grad()
def one_call(model: SpotDiff, batch: RequestBatch) -> Tensor:
    """Latents by the sampler that every method uses."""
    scheduler = build_sampler(model.sampling, model.backbone.scheduler)
    conditioning, null = model.conditioning(batch), model.null_conditioning(batch)
    return sample(model.denoise, scheduler, batch.noise, conditioning, null, model.sampling)


@torch.no_grad()
def two_calls(model: SpotDiff, batch: RequestBatch) -> Tensor:
    """The same latents by a loop that calls the UNet once for each branch."""
    scheduler = build_sampler(model.sampling, model.backbone.scheduler)
    scheduler.set_timesteps(model.sampling.steps)
    conditioning, null = model.conditioning(batch), model.null_conditioning(batch)
    z = batch.noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled, times = scheduler.scale_model_input(z, t), t.expand(len(z))
        without = model.denoise(scaled, times, null)
        towards = model.denoise(scaled, times, conditioning) - without
        z = scheduler.step(without + model.sampling.guidance * towards, t, z, return_dict=False)[0]
    return z

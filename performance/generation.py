"""Generation: 16 requests in one batch against one by one, and both branches of guidance in one UNet call against two.

Batches are timed on the small base model of :mod:`performance.models`, because their gain depends on the network.
"""

import torch
from torch import Tensor

from contracts.batch import RequestBatch
from lightning_modules.spotdiff import SpotDiff
from networks.sampler import build_sampler, sample
from performance.models import SMALL_WIDTH, one_request, pocket_models, request_batch, small_backbone, spotdiff
from performance.timing import Result, Rounds, compare

BATCH_SIZE = 16
SINGLES_PER_ROUND = 4
BATCH_GOAL = 3.5
GUIDANCE_GOAL = 1.2


def measure_batches(rounds: Rounds | None = None) -> Result:
    """Milliseconds per image, conditioning and decoding included, with the default sampler; reference / ours."""
    model = spotdiff(small_backbone(), SMALL_WIDTH).eval()
    batch = request_batch(model, BATCH_SIZE, SMALL_WIDTH)
    singles = [one_request(batch, index) for index in range(SINGLES_PER_ROUND)]
    rounds = compare(lambda: model.draw(batch), lambda: [model.draw(single) for single in singles], rounds, warmup=1)
    ours = 1000 * rounds.ours / BATCH_SIZE
    reference = 1000 * rounds.reference / SINGLES_PER_ROUND
    return Result(
        "generation in batches of 16",
        ours,
        reference,
        reference / ours,
        BATCH_GOAL,
        "higher",
        "ms/image",
        rounds.self_ratio,
    )


def measure_guidance(rounds: Rounds | None = None) -> Result:
    """Milliseconds per image without decoding, at batch 1; reference / ours."""
    backbone, images = pocket_models()
    model = spotdiff(backbone, images.width).eval()
    batch = request_batch(model, 1, images.width)
    rounds = compare(lambda: one_call(model, batch), lambda: two_calls(model, batch), rounds)
    ours = 1000 * rounds.ours
    reference = 1000 * rounds.reference
    return Result(
        "guidance in one call",
        ours,
        reference,
        reference / ours,
        GUIDANCE_GOAL,
        "higher",
        "ms/image",
        rounds.self_ratio,
    )


@torch.no_grad()
def one_call(model: SpotDiff, batch: RequestBatch) -> Tensor:
    """Latents by the sampler that every method uses."""
    scheduler = build_sampler(model.sampling, model.backbone.scheduler)
    conditioning = model.conditioning(batch)
    null = model.null_conditioning(batch)
    return sample(model.denoise, scheduler, batch.noise, conditioning, null, model.sampling)


@torch.no_grad()
def two_calls(model: SpotDiff, batch: RequestBatch) -> Tensor:
    """The same latents by a loop that calls the UNet once for each branch."""
    scheduler = build_sampler(model.sampling, model.backbone.scheduler)
    scheduler.set_timesteps(model.sampling.steps)
    conditioning = model.conditioning(batch)
    null = model.null_conditioning(batch)
    z = batch.noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(z, t)
        times = t.expand(len(z))
        without = model.denoise(scaled, times, null)
        towards = model.denoise(scaled, times, conditioning) - without
        z = scheduler.step(without + model.sampling.guidance * towards, t, z, return_dict=False)[0]
    return z

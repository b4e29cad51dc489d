"""A training step on cached features against one that encodes its images and captions: speed-up / FLOP ratio.

The FLOP ratio is what a perfect cache would gain if every operation were equally fast, so 1 means that reading costs
nothing.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from contracts.batch import PairBatch
from contracts.text import Text
from datamodules.features.cache import FeatureCache
from lightning_modules.spotdiff import SpotDiff
from networks.backbone import Backbone
from networks.clip_image import ClipImageEncoder
from performance.models import pair_batch, pocket_models, spotdiff
from performance.timing import Result, Rounds, compare

BATCH_SIZE = 8
STORED = 64
GOAL = 0.9
Fill = Callable[[PairBatch], PairBatch]


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per step of both sides."""
    backbone, images = pocket_models()
    model = spotdiff(backbone, images.width)
    batch = pair_batch(model, BATCH_SIZE, images.width)
    step = training_step(model)
    with tempfile.TemporaryDirectory() as folder:
        online, cached = fills(backbone, images, Path(folder))
        flops = _flops(lambda: step(online(batch))) / _flops(lambda: step(cached(batch)))
        rounds = compare(lambda: step(cached(batch)), lambda: step(online(batch)), rounds)
    ours = 1000 * rounds.ours
    reference = 1000 * rounds.reference
    share = reference / ours / flops
    return Result(
        "cached encoders, share of FLOP ratio", ours, reference, share, GOAL, "higher", "ms/step", rounds.self_ratio
    )


def fills(backbone: Backbone, images: ClipImageEncoder, folder: Path) -> tuple[Fill, Fill]:
    """(online, cached): two ways of putting the features of the same images and captions into a batch.

    The cache holds ``STORED`` of each, in random order, as a data set's cache does.
    """
    generator = torch.Generator().manual_seed(3)
    side = backbone.resolution
    pixels = torch.randint(256, (STORED, side, side, 3), generator=generator, dtype=torch.uint8)
    captions = [f"a photo of a person, number {number}" for number in range(STORED)]
    encoders = {
        "moments": lambda rows: backbone.encode_moments(pixels[rows]),
        "text": lambda rows: backbone.encode_text([captions[row] for row in rows]).states,
        "clip": lambda rows: images.encode(pixels[rows]),
    }
    caches = {name: FeatureCache(folder, name, "benchmark") for name in encoders}
    for name, cache in caches.items():
        cache.append([str(row) for row in range(STORED)], encoders[name](list(range(STORED))))
    targets, references = torch.randperm(STORED, generator=generator).split([BATCH_SIZE, STORED - BATCH_SIZE])
    target = targets.tolist()
    reference = references[:BATCH_SIZE].tolist()

    def fill(read: Callable[[str, list[int]], torch.Tensor], batch: PairBatch) -> PairBatch:
        return replace(
            batch,
            moments=read("moments", target),
            text_states=Text(read("text", target)),
            reference={"clip": read("clip", reference)},
            second_view={"clip": read("clip", target)},
        )

    return (
        lambda batch: fill(lambda name, rows: encoders[name](rows), batch),
        lambda batch: fill(lambda name, rows: caches[name].rows([str(row) for row in rows]), batch),
    )


def training_step(model: SpotDiff) -> Callable[[PairBatch], None]:
    """Forward, backward and update of training stage 2."""
    optimiser = torch.optim.AdamW(model.parameter_groups(), lr=model.learning_rate, fused=True)

    def step(batch: PairBatch) -> None:
        optimiser.zero_grad()
        torch.stack(list(model.loss_terms(batch).values())).sum().backward()
        optimiser.step()

    return step


def _flops(work: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()

"""Diversity of 32 samples in O(n) against the loop over pairs: reference / ours."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.functional.diversity import sample_diversity
from performance.timing import Result, Rounds, compare, seconds

SAMPLES, WIDTH, GOAL = 32, 512, 25.0
REPEATS = 20  # one call is too short for the clock


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per group of samples."""
    features, group = draw(SAMPLES)
    rounds = compare(
        lambda: [sample_diversity(features, group) for _ in range(REPEATS)],
        lambda: [pair_loop(features) for _ in range(REPEATS)],
        rounds,
    )
    ours, reference = 1000 * rounds.ours / REPEATS, 1000 * rounds.reference / REPEATS
    return Result(
        "diversity, 32 samples", ours, reference, reference / ours, GOAL, "higher", "ms/group", rounds.self_ratio
    )


def draw(samples: int) -> tuple[Tensor, Tensor]:
    """Unit features (samples, WIDTH) of one group."""
    draws = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(samples, WIDTH, generator=draws), dim=-1), torch.zeros(samples, dtype=torch.int64)


def pair_loop(features: Tensor) -> float:
    """The mean cosine distance over all pairs, one pair after the other."""
    distances = [1 - float(features[i] @ features[j]) for i, j in itertools.combinations(range(len(features)), 2)]
    return sum(distances) / len(distances)


def growth(few: int = 16, many: int = 128) -> float:
    """The exponent k of time ~ n^k between two numbers of samples."""

    def fastest(samples: int) -> float:
        features, group = draw(samples)
        return min(seconds(lambda: [sample_diversity(features, group) for _ in range(REPEATS)]) for _ in range(7))

    return math.log(fastest(many) / fastest(few)) / math.log(many / few)

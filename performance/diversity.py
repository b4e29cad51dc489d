"""Diversity in O(n): 32 samples against the loop over pairs, and how its time grows with the samples of a prompt."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.functional.diversity import sample_diversity
from performance.timing import Result, Rounds, compare, seconds

SAMPLES = 32
WIDTH = 512
GOAL = 25.0
GROWTH_GOAL = 1.2
REPEATS = 20  # one call is too short for the clock


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per group of samples; reference / ours."""
    features, group = random_features(SAMPLES)
    rounds = compare(
        lambda: [sample_diversity(features, group) for _ in range(REPEATS)],
        lambda: [pair_loop(features) for _ in range(REPEATS)],
        rounds,
    )
    ours = 1000 * rounds.ours / REPEATS
    reference = 1000 * rounds.reference / REPEATS
    return Result(
        "diversity, 32 samples", ours, reference, reference / ours, GOAL, "higher", "ms/group", rounds.self_ratio
    )


def measure_growth() -> Result:
    """The exponent k of n^k from 16 to 128 samples; the loop over pairs would have 2."""
    exponent = growth()
    return Result("diversity, growth from 16 to 128", exponent, 2.0, exponent, GROWTH_GOAL, "lower", "exponent", 1.0)


def random_features(samples: int) -> tuple[Tensor, Tensor]:
    """Unit features (samples, WIDTH), and the index of their one group, (samples,)."""
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(samples, WIDTH, generator=generator), dim=-1), torch.zeros(
        samples, dtype=torch.int64
    )


def pair_loop(features: Tensor) -> float:
    """The mean cosine distance over all pairs, one pair after the other."""
    distances = [1 - float(features[i] @ features[j]) for i, j in itertools.combinations(range(len(features)), 2)]
    return sum(distances) / len(distances)


def growth(few: int = 16, many: int = 128) -> float:
    """The exponent k of time ~ n^k between two numbers of samples."""

    def fastest(samples: int) -> float:
        features, group = random_features(samples)
        return min(seconds(lambda: [sample_diversity(features, group) for _ in range(REPEATS)]) for _ in range(7))

    return math.log(fastest(many) / fastest(few)) / math.log(many / few)

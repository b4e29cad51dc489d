import math

import torch
import torch.nn.functional as F
from scipy.spatial.distance import cosine
from torch import Tensor

from metrics.clip_score import ClipScore
from metrics.functional.clip_score import clip_score
from tests.metrics.tester import Values, check_metric


def reference(image_features: Tensor, text_features: Tensor) -> Values:
    """SciPy's cosine distance, one image at a time."""
    pairs = zip(image_features.numpy(), text_features.numpy(), strict=True)
    return {"": sum(1 - cosine(image, text) for image, text in pairs) / len(image_features)}


def batch(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(2, size, 12, generator=generator, dtype=torch.float64)
    image, text = F.normalize(draw, dim=-1)
    return image, text


def test_every_way_of_counting_agrees() -> None:
    check_metric(ClipScore, [batch(3, 1), batch(6, 2), batch(1, 3)], reference)


def test_values_are_raw_cosines() -> None:
    image, _ = batch(2, 4)
    assert math.isclose(float(clip_score(image, image)), 1.0)
    assert math.isclose(float(clip_score(image, -image)), -1.0)

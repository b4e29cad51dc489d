import math

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cosine
from torch import Tensor

from metrics.clip_score import ClipScore, EditMargin
from metrics.functional.clip_score import clip_score
from tests.helpers.metric_tester import Values, check_metric


def reference(image_features: Tensor, text_features: Tensor) -> Values:
    """SciPy's cosine distance, one image at a time."""
    pairs = zip(image_features.numpy(), text_features.numpy(), strict=True)
    return {"": sum(1 - cosine(image, text) for image, text in pairs) / len(image_features)}


def margin_reference(image_features: Tensor, text_features: Tensor, neutral: Tensor) -> Values:
    """The margin is the difference of two means."""
    return {"": reference(image_features, text_features)[""] - reference(image_features, neutral)[""]}


def batch(size: int, seed: int, vectors: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(vectors, size, 12, generator=generator, dtype=torch.float64)
    return tuple(F.normalize(draw, dim=-1))


def test_every_way_of_counting_agrees() -> None:
    check_metric(ClipScore, [batch(3, 1), batch(6, 2), batch(1, 3)], reference)


def test_every_way_of_counting_margins_agrees() -> None:
    check_metric(EditMargin, [batch(2, 1, 3), batch(5, 2, 3), batch(4, 3, 3)], margin_reference)


def test_values_are_raw_cosines() -> None:
    image, _ = batch(2, 4)
    assert math.isclose(float(clip_score(image, image)), 1.0)
    assert math.isclose(float(clip_score(image, -image)), -1.0)


def test_an_edit_that_is_ignored_has_no_margin() -> None:
    image, text = batch(3, 5)
    metric = EditMargin()
    metric.update(image, text, text)
    assert float(metric.compute()) == pytest.approx(0.0)

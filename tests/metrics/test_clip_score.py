import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cosine
from torch import Tensor

from metrics.functional.clip_score import clip_similarity, edit_margin


def batch(size: int, seed: int, vectors: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(vectors, size, 12, generator=generator, dtype=torch.float64)
    return tuple(F.normalize(draw, dim=-1))


def by_scipy(image_features: Tensor, text_features: Tensor) -> list[float]:
    """SciPy's cosine distance, one image at a time."""
    return [1 - cosine(a, b) for a, b in zip(image_features.numpy(), text_features.numpy(), strict=True)]


def test_values_are_raw_cosines() -> None:
    image, text = batch(6, 2)
    np.testing.assert_allclose(clip_similarity(image, text), by_scipy(image, text), atol=1e-12)
    assert clip_similarity(image, image).tolist() == pytest.approx([1.0] * 6)
    assert clip_similarity(image, -image).tolist() == pytest.approx([-1.0] * 6)


def test_a_margin_is_the_difference_of_two_cosines() -> None:
    image, text, neutral = batch(5, 2, 3)
    expected = np.subtract(by_scipy(image, text), by_scipy(image, neutral))
    np.testing.assert_allclose(edit_margin(image, text, neutral), expected, atol=1e-12)


def test_an_edit_that_is_ignored_has_no_margin() -> None:
    image, text = batch(3, 5)
    assert edit_margin(image, text, text).tolist() == pytest.approx([0.0] * 3)

import numpy as np
import pytest
import torch
from torch import Tensor

from losses.orthogonality import orthogonality_loss, view_invariance_loss
from tests.helpers.descend import descend


def features(seed: int) -> Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))


def cosines(a: Tensor, b: Tensor) -> np.ndarray:
    x, y = a.detach().numpy(), b.detach().numpy()
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def test_orthogonality_is_the_sum_of_squared_cosines() -> None:
    subject = features(0)
    pose = features(1)
    background = features(2)
    loss = orthogonality_loss(subject, [pose, background])
    assert loss.shape == (4,)
    np.testing.assert_allclose(loss, cosines(subject, pose) ** 2 + cosines(subject, background) ** 2, rtol=1e-5)
    np.testing.assert_allclose(orthogonality_loss(-3 * subject, [pose, background]), loss, rtol=1e-5)


def test_orthogonality_falls_under_gradient_descent() -> None:
    nuisances = [features(1), features(2)]
    first, last = descend(lambda z: orthogonality_loss(z, nuisances).mean(), features(0))
    assert last < 0.5 * first


def test_orthogonality_never_pushes_the_experts() -> None:
    subject = features(0).requires_grad_(True)
    expert = features(1).requires_grad_(True)
    orthogonality_loss(subject, [expert]).sum().backward()
    assert subject.grad is not None and subject.grad.any()
    assert expert.grad is None


@pytest.mark.parametrize(("factor", "expected"), [(2.0, 1.0), (-0.5, 1.0)])
def test_parallel_features_cost_most(factor: float, expected: float) -> None:
    subject = features(0)
    np.testing.assert_allclose(orthogonality_loss(subject, [factor * subject]), expected, rtol=1e-5)


def test_without_experts_it_is_zero_per_sample() -> None:
    assert orthogonality_loss(features(0), []).tolist() == [0, 0, 0, 0]


def test_invariance_is_one_minus_the_cosine() -> None:
    first = features(0)
    second = features(1)
    loss = view_invariance_loss(first, second)
    assert loss.shape == (4,)
    np.testing.assert_allclose(loss, 1 - cosines(first, second), rtol=1e-5)
    np.testing.assert_allclose(view_invariance_loss(first, 5 * first), 0, atol=1e-6)


def test_invariance_falls_under_gradient_descent_and_pushes_both_views() -> None:
    other = features(1).requires_grad_(True)
    first, last = descend(lambda z: view_invariance_loss(z, other).mean(), features(0))
    assert last < first
    assert other.grad is not None and other.grad.any()

"""The losses of PIDiff-R against formulas written out in NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from losses.attention_leak import attention_leak
from losses.diffusion import masked_mean
from losses.disentanglement import disentanglement_loss
from losses.localisation import face_loss
from losses.preservation import preservation_loss
from tests.helpers.descend import descend


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def soft(seed: int = 5) -> Tensor:
    return torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def expected_mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (values * mask).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * values.shape[1])


def test_the_face_loss_is_the_error_over_the_face() -> None:
    a, b, m = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1), soft()
    np.testing.assert_allclose(face_loss(a, b, m), expected_mean((a - b).numpy() ** 2, m.numpy()), rtol=1e-5)


def test_preservation_is_the_distance_to_the_base_model_in_the_region() -> None:
    a, b, m = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1), 1 - soft()
    np.testing.assert_allclose(preservation_loss(a, b, m), expected_mean((a - b).numpy() ** 2, m.numpy()), rtol=1e-5)
    whole = preservation_loss(a, b, torch.ones_like(m))
    np.testing.assert_allclose(whole, ((a - b).numpy() ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_disentanglement_is_the_change_outside_the_face() -> None:
    a, b, m = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1), soft()
    outside = (1 - m.numpy()) * (a - b).numpy()
    np.testing.assert_allclose(disentanglement_loss(a, b, m), (outside**2).mean((1, 2, 3)), rtol=1e-5)


def test_disentanglement_of_an_unchanged_code_is_exactly_zero() -> None:
    a = normal(3, 2, 4, 4)
    assert torch.equal(disentanglement_loss(a, a.clone(), soft()), torch.zeros(3))


def test_disentanglement_sees_nothing_inside_the_face() -> None:
    a, b = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1)
    assert torch.equal(disentanglement_loss(a, b, torch.ones(3, 1, 4, 4)), torch.zeros(3))


@pytest.mark.parametrize("loss", [preservation_loss, disentanglement_loss])
def test_targets_are_never_pushed(loss) -> None:  # type: ignore[no-untyped-def]
    a, b = normal(3, 2, 4, 4).requires_grad_(True), normal(3, 2, 4, 4, seed=1).requires_grad_(True)
    loss(a, b, soft()).sum().backward()
    assert a.grad is not None and a.grad.any() and b.grad is None


def test_a_mean_does_not_depend_on_the_rest_of_the_batch() -> None:
    values = normal(3, 2, 4, 4)
    mask = soft()
    torch.testing.assert_close(masked_mean(values, mask)[1:2], masked_mean(values[1:2], mask[1:2]))


def test_an_empty_mask_counts_as_zero() -> None:
    assert torch.equal(masked_mean(normal(3, 2, 4, 4), torch.zeros(3, 1, 4, 4)), torch.zeros(3))


def test_the_leak_is_the_share_outside() -> None:
    norms = normal(3, 16, seed=2).abs()
    m = (soft() > 0.5).float()
    share = norms.numpy() / norms.numpy().sum(1, keepdims=True)
    np.testing.assert_allclose(attention_leak(norms, m), (share * (1 - m.numpy().reshape(3, 16))).sum(1), rtol=1e-5)


def test_the_leak_is_measured_on_the_layers_grid() -> None:
    face = torch.zeros(1, 1, 4, 4)
    face[..., :2] = 1.0
    assert attention_leak(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), face).item() == 0.0
    assert attention_leak(torch.tensor([[0.0, 1.0, 0.0, 1.0]]), face).item() == 1.0
    assert attention_leak(torch.ones(1, 4), face).item() == 0.5
    assert attention_leak(torch.zeros(1, 4), face).item() == 0.0
    with pytest.raises(ValueError, match="no square grid"):
        attention_leak(torch.ones(1, 5), face)


def test_all_fall_under_gradient_descent() -> None:
    target = normal(3, 2, 4, 4, seed=1)
    mask = soft()
    start = normal(3, 2, 4, 4)
    for loss in (face_loss, preservation_loss, disentanglement_loss):
        first, last = descend(lambda x, loss=loss: loss(x, target, mask).mean(), start)  # type: ignore[misc]
        assert last < first
    first, last = descend(lambda x: attention_leak(x.square(), mask).mean(), normal(3, 16))
    assert last < first

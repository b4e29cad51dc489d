import numpy as np
import torch

from losses.diffusion import diffusion_loss, subject_weighted_loss
from tests.helpers.descend import descend


def latents(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(seed))


def test_is_the_mean_square_of_each_sample() -> None:
    prediction = latents(0)
    target = latents(1)
    loss = diffusion_loss(prediction, target)
    assert loss.shape == (3,)
    expected = ((prediction.numpy() - target.numpy()) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-5)
    assert diffusion_loss(target, target).tolist() == [0, 0, 0]


def test_falls_under_gradient_descent() -> None:
    target = latents(1)
    first, last = descend(lambda x: diffusion_loss(x, target).mean(), latents(0))
    assert last < first


def test_is_float32_for_half_precision() -> None:
    assert diffusion_loss(latents(0).bfloat16(), latents(1)).dtype == torch.float32


def test_the_subjects_cells_count_more_by_the_weight() -> None:
    prediction = latents(0)
    target = latents(1)
    mask = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    error = (prediction.numpy() - target.numpy()) ** 2
    weight = 1 + 4 * mask.numpy()
    expected = (weight * error).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * 4)
    np.testing.assert_allclose(subject_weighted_loss(prediction, target, mask, 4.0).numpy(), expected, rtol=1e-5)
    torch.testing.assert_close(subject_weighted_loss(prediction, target, mask, 0.0), diffusion_loss(prediction, target))

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from metrics.functional.kid import kernel_distance
from metrics.functional.vendi import vendi_score


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_vendi_of_copies_is_1_and_of_orthogonal_samples_n() -> None:
    assert float(vendi_score(torch.ones(5, 4) / 2)) == pytest.approx(1.0)
    assert float(vendi_score(torch.eye(5))) == pytest.approx(5.0)


def test_vendi_grows_with_n_so_n_is_fixed() -> None:
    features = unit(8, 64, seed=2)
    assert float(vendi_score(features)) > float(vendi_score(features[:4])) + 1


def test_kid_is_that_of_torchmetrics() -> None:
    x, y = unit(40, 16, seed=3), unit(40, 16, seed=4)
    assert float(kernel_distance(x, y)) == pytest.approx(float(poly_mmd(x, y, 3, None, 1.0)), abs=1e-9)


def test_kid_is_unbiased_at_few_images() -> None:
    """Of equal distributions the estimates scatter about 0."""
    values = [float(kernel_distance(unit(20, 8, seed=s), unit(20, 8, seed=1000 + s))) for s in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))

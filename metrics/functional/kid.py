"""KID: the unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (arXiv 1801.01401, section 4).

Unlike FID it is unbiased at a few hundred images, where FID's covariance does not even have full rank.
"""

import torch
from torch import Tensor


def kernel_distance(generated: Tensor, real: Tensor) -> Tensor:
    """KID of features (N, D) and (M, D), in float64; NaN where one side has fewer than two rows.

    It may be slightly negative for equal distributions.
    """
    n, m = len(generated), len(real)
    if n < 2 or m < 2:
        return torch.tensor(torch.nan, dtype=torch.float64)
    x, y = generated.double(), real.double()
    within_x, within_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    first = (within_x.sum() - within_x.diagonal().sum()) / (n * (n - 1))
    second = (within_y.sum() - within_y.diagonal().sum()) / (m * (m - 1))
    return first + second - 2 * between.mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3

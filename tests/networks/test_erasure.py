"""Erasure takes off what is linear of a concept, and as little else as can be."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from networks.erasure import Erasure, principal_part


def data(count: int = 800, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated features (N, D), and the classes (N,) that shift them along two directions."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    shifts = torch.randn(3, width, generator=g)
    mix = torch.randn(width, width, generator=g)
    return torch.randn(count, width, generator=g) @ mix + 4 * shifts[labels] + 1, labels


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels).float()


def accuracy(x: torch.Tensor, labels: torch.Tensor) -> float:
    return float(LogisticRegression(max_iter=500).fit(x.numpy(), labels).score(x.numpy(), labels))


def test_nothing_is_taken_off_before_the_fit() -> None:
    x, _ = data()
    assert torch.equal(Erasure(12)(x), x)


def test_no_covariance_with_the_concept_is_left() -> None:
    x, labels = data()
    erasure = Erasure(12)
    erasure.fit(x, [one_hot(labels)])
    left = erasure(x)
    centred = one_hot(labels) - one_hot(labels).mean(dim=0)
    np.testing.assert_allclose((left - left.mean(dim=0)).T @ centred / len(x), 0, atol=1e-4)
    assert accuracy(x, labels) > 0.9
    assert accuracy(left, labels) < 0.4  # a third is chance
    np.testing.assert_allclose(left.mean(dim=0), x.mean(dim=0), atol=1e-4)


def test_it_is_a_projection_of_the_rank_of_the_concept() -> None:
    x, labels = data()
    erasure = Erasure(12)
    erasure.fit(x, [one_hot(labels)])  # three columns that add up to 1
    assert torch.linalg.matrix_rank(erasure.removed, atol=1e-4) == 2
    torch.testing.assert_close(erasure(erasure(x)), erasure(x), atol=1e-3, rtol=1e-4)


def test_it_changes_less_than_leaving_out_the_directions_of_the_classes() -> None:
    x, labels = data()
    erasure = Erasure(12)
    erasure.fit(x, [one_hot(labels)])
    whitened = torch.linalg.inv(torch.linalg.cholesky(x.T.cov())) @ (x - erasure(x)).T
    means = torch.stack([x[labels == k].mean(dim=0) for k in range(3)]) - x.mean(dim=0)
    basis = torch.linalg.svd(means, full_matrices=False).Vh[:2]
    along = torch.linalg.inv(torch.linalg.cholesky(x.T.cov())) @ ((x - x.mean(dim=0)) @ basis.T @ basis).T
    assert whitened.square().sum() < along.square().sum()


def test_features_of_less_rank_than_width() -> None:
    x, labels = data()
    flat = torch.cat([x, x[:, :4]], dim=1)
    erasure = Erasure(16)
    erasure.fit(flat, [one_hot(labels)])
    assert accuracy(erasure(flat), labels) < 0.4


def test_what_one_concept_takes_off_can_be_given_back_alone() -> None:
    x, labels = data()
    others = torch.arange(len(x)) // 3 % 2
    x = x + 4 * torch.randn(2, 12, generator=torch.Generator().manual_seed(1))[others]
    erasure = Erasure(12, concepts=2)
    erasure.fit(x, [one_hot(labels), one_hot(others)])
    for number, (given, left) in enumerate(((labels, others), (others, labels))):
        back = erasure(x) + erasure.given(x, torch.eye(2)[number].expand(len(x), 2))
        assert accuracy(back, given) > 0.9
        assert accuracy(back, left) < 1.3 / (int(left.max()) + 1), "the other stays away"
    assert torch.equal(erasure.given(x, torch.zeros(len(x), 2)), torch.zeros_like(x))


def test_it_is_kept_in_the_state() -> None:
    x, labels = data()
    erasure, again = Erasure(12), Erasure(12)
    erasure.fit(x, [one_hot(labels)])
    again.load_state_dict(erasure.state_dict())
    assert again.fitted and torch.equal(again(x), erasure(x))


def test_principal_parts_are_uncorrelated_and_largest_first() -> None:
    x, _ = data()
    parts = principal_part(x, 5)
    spread = parts.T.cov()
    assert parts.shape == (800, 5) and principal_part(x, 40).shape == (800, 12)
    np.testing.assert_allclose(spread - torch.diag(spread.diagonal()), 0, atol=1e-8)
    assert (spread.diagonal().diff() < 0).all()

import numpy as np
import pytest
import torch
from torch import Tensor

from losses.contrastive import supervised_info_nce
from tests.helpers.descend import descend

LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


def features(seed: int = 0, size: int = 6, width: int = 8) -> Tensor:
    return torch.randn(size, width, generator=torch.Generator().manual_seed(seed))


def by_hand(z: Tensor, labels: Tensor, temperature: float) -> float:
    unit = z.double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    anchors = []
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        exps = {j: np.exp(unit[i] @ unit[j] / temperature) for j in others}
        positives = [j for j in others if labels[j] == labels[i]]
        if positives:
            anchors.append(-np.mean([np.log(exps[j] / sum(exps.values())) for j in positives]))
    return float(np.mean(anchors))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_the_formula(temperature: float) -> None:
    z = features()
    assert supervised_info_nce(z, LABELS, temperature).item() == pytest.approx(
        by_hand(z, LABELS, temperature), rel=1e-5
    )


def test_falls_under_gradient_descent() -> None:
    first, last = descend(lambda z: supervised_info_nce(z, LABELS), features())
    assert last < 0.5 * first


def test_without_a_positive_it_is_zero_and_pushes_nothing() -> None:
    z = features().requires_grad_(True)
    loss = supervised_info_nce(z, torch.arange(6))
    loss.backward()
    assert loss.item() == 0.0
    assert z.grad is not None and not z.grad.any()


def test_a_single_sample_is_zero() -> None:
    assert supervised_info_nce(features(size=1), torch.tensor([3])).item() == 0.0


def test_knows_neither_order_nor_length_nor_names_of_labels() -> None:
    z = features()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = supervised_info_nce(z, LABELS)
    lengths = torch.linspace(0.1, 9, 6)[:, None]
    for other in (
        supervised_info_nce(z[order], LABELS[order]),
        supervised_info_nce(z * lengths, LABELS),
        supervised_info_nce(z, 10 - LABELS),
    ):
        torch.testing.assert_close(other, expected)


def test_is_finite_where_all_features_are_equal_or_opposite() -> None:
    one = torch.ones(2, 8)
    for z in (torch.cat([one, one]), torch.cat([one, -one])):
        z.requires_grad_(True)
        loss = supervised_info_nce(z, torch.tensor([0, 1, 0, 1]))
        loss.backward()
        assert loss.isfinite() and z.grad is not None and z.grad.isfinite().all()

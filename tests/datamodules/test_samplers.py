"""Batches by number: exact for any process count, resumable at any number."""

from collections import Counter

import pytest
import torch

from contracts.errors import LikenessError
from datamodules.samplers import StepLoader, epoch_order, global_batch, per_process, share


def test_every_epoch_has_every_sample_once_even_where_batches_do_not_fit() -> None:
    drawn = [sample for k in range(20) for sample in global_batch(k, 4, 10, seed=3)]
    for epoch in range(8):
        assert sorted(index for e, index in drawn if e == epoch) == list(range(10))


def test_epochs_and_seeds_differ() -> None:
    orders = {epoch_order(50, seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert epoch_order(50, 1, 2) == epoch_order(50, 1, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_shares_are_a_partition(count: int) -> None:
    items = list(range(11))
    shares = [share(items, rank, count) for rank in range(count)]
    assert Counter(i for some in shares for i in some) == Counter(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    assert per_process(32, 8) == 4
    with pytest.raises(LikenessError, match=r"batch_size 30 .* divisible by 4: use 28 or 32"):
        per_process(30, 4)
    with pytest.raises(LikenessError, match=r"by 4: use 4$"):
        per_process(3, 4)


class _Numbers:
    def __getitem__(self, number: int) -> int:
        return number * number


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_starts_at_the_position_when_iteration_starts(workers: int) -> None:
    position = 0
    loader = StepLoader(_Numbers(), 5, lambda: position, workers)
    assert len(loader) == 5
    assert list(loader) == [0, 1, 4, 9, 16]
    position = 3
    assert list(loader) == [9, 16, 25, 36, 49]


def test_iteration_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(StepLoader(_Numbers(), 3, lambda: 0))
    assert torch.equal(before, torch.get_rng_state())

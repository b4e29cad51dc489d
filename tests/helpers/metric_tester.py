"""One tester for every metric: each way of feeding it must agree with an independent reference."""

import math
import pickle
import warnings
from collections.abc import Callable

import torch
import torch.distributed
from torch import Tensor
from torchmetrics import Metric

from tests.helpers.distributed import run_ranks

Batch = tuple[Tensor, ...]
Values = dict[str, float]


def values_of(result: Tensor | dict[str, Tensor]) -> Values:
    """A metric's result as floats by name."""
    named = result if isinstance(result, dict) else {"": result}
    return {name: float(value) for name, value in named.items()}


def assert_close(got: Values, expected: Values) -> None:
    """Same names, values within 1e-9, NaN equal to NaN."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        both_nan = math.isnan(got[name]) and math.isnan(value)
        assert both_nan or math.isclose(got[name], value, rel_tol=1e-9, abs_tol=1e-9), (name, got[name], value)


def check_metric(make: Callable[[], Metric], batches: list[Batch], reference: Callable[..., Values]) -> None:
    """Check the metric that ``make`` makes on ``batches`` (an odd number, of unequal sizes).

    A batch of no images among them counts nothing. ``reference`` takes what ``update`` takes, for all images at once,
    and computes the values another way.
    """
    assert len(batches) % 2 == 1
    everything = tuple(torch.cat(column) for column in zip(*batches, strict=True))
    expected = reference(*everything)

    metric = make()
    states = {name: (value.shape, value.dtype) for name, value in metric.metric_state.items()}
    assert {dtype for _, dtype in states.values()} == {torch.float64}
    for batch in batches:
        assert_close(values_of(metric(*batch)), reference(*batch))
    assert_close(values_of(metric.compute()), expected)
    metric.update(*(column[:0] for column in batches[0]))
    assert_close(values_of(metric.compute()), expected)
    assert states == {name: (value.shape, value.dtype) for name, value in metric.metric_state.items()}

    halfway = make()
    for batch in batches[: len(batches) // 2]:
        halfway.update(*batch)
    for copy in (pickle.loads(pickle.dumps(halfway)), halfway.clone()):
        for batch in batches[len(batches) // 2 :]:
            copy.update(*batch)
        assert_close(values_of(copy.compute()), expected)

    metric.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns, rightly, that nothing was counted
        assert all(math.isnan(value) for value in values_of(metric.compute()).values())
        assert all(math.isnan(v) for v in values_of(metric(*(column[:0] for column in batches[0]))).values())
    assert isinstance(metric.higher_is_better, bool)

    for world_size in (1, 2):
        alternating = [batches[rank::world_size] for rank in range(world_size)]
        all_on_one: list[list[Batch]] = [batches, *[[] for _ in range(world_size - 1)]]
        for shares in (alternating, all_on_one):
            for got in run_ranks(_count_share, make, shares, ranks=world_size):
                assert_close(got, expected)


def _count_share(make: Callable[[], Metric], shares: list[list[Batch]]) -> Values:
    metric = make()
    batches = shares[torch.distributed.get_rank()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in batches:
            metric.update(*batch)
        return values_of(metric.compute())

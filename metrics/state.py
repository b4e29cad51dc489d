"""The torchmetrics class of every metric: rows of a plan's images, counted by any number of processes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric as TorchMetric
from torchmetrics.utilities import dim_zero_cat

from contracts.records import Request
from metrics.base import Metric, PlanIndex
from metrics.judges import JudgedImages


class MetricState(TorchMetric):
    """Counts judged images of a plan and computes the metric's value over all of them.

    Every process may count any images of the plan, each image once; the value is the same to the last bit for every
    number of processes, as rows are put into the order of the plan before they are summed.

    Args:
        metric: What is measured.
        requests: The plan; images of other requests are refused (``KeyError``).
        photos: The metric's ``feature`` of the held-out photos (M, D), where it needs ``photos``.
    """

    is_differentiable = False
    full_state_update = False
    values: list[Tensor]
    numbers: list[Tensor]

    def __init__(
        self,
        metric: Metric,
        requests: Sequence[Request],
        photos: NDArray[np.float32] | None = None,
        **torchmetrics_options: Any,
    ) -> None:
        super().__init__(**torchmetrics_options)
        self.metric = metric
        second = (request.beside for request in requests if request.beside is not None)
        subjects = tuple(dict.fromkeys([*(request.subject for request in requests), *second]))
        samples = max((request.sample + 1 for request in requests), default=0)
        self._index = PlanIndex(requests, subjects, samples)
        self._photos = photos
        for name in ("values", "numbers"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._begin()

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """The direction of the metric's card."""
        return self.metric.higher_is_better

    def update(self, judged: JudgedImages) -> None:
        """Count images."""
        numbers = [self._index.number[request.id] for request in judged.requests]
        values = torch.from_numpy(self.metric.rows(judged).astype(np.float64))
        self.values.append(values.flatten().to(self.device))
        self.numbers.append(torch.tensor(numbers, dtype=torch.int64, device=self.device))

    def compute(self) -> Tensor:
        """The value, as float64; NaN where nothing is defined."""
        numbers = dim_zero_cat(self.numbers).cpu().numpy()
        if not len(numbers):
            return torch.tensor(torch.nan, dtype=torch.float64)
        values = dim_zero_cat(self.values).cpu().numpy()
        if self.metric.feature:
            values = values.reshape(len(numbers), -1)
        order = np.argsort(numbers, kind="stable")
        rows = self._index.rows(values[order], numbers[order])
        return torch.tensor(self.metric.value(rows, self._photos), dtype=torch.float64)

    def reset(self) -> None:
        """Count nothing."""
        super().reset()
        self._begin()

    def _begin(self) -> None:
        """A process that counts no image must still take part in gathering, for which a list must not be empty."""
        self.values.append(torch.zeros(0, dtype=torch.float64, device=self.device))
        self.numbers.append(torch.zeros(0, dtype=torch.int64, device=self.device))

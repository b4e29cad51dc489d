"""The rate that a run shows counts every image once, whoever works on it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks import progress
from contracts.batch import FactorBatch, SubjectBatch


class Log:
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}

    def log(self, name: str, value: float, **rest: object) -> None:
        self.logged[name] = value

    @property
    def value(self) -> float:
        return self.logged["images_per_second"]


def test_images_of_all_processes_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 4.0, 6.0, 7.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    whole_steps = SimpleNamespace(_should_accumulate=lambda: False)
    trainer: Any = SimpleNamespace(world_size=2, log_every_n_steps=2, global_step=1, fit_loop=whole_steps)
    module: Any = Log()
    throughput = progress.Telemetry()
    share = SimpleNamespace(sample_ids=("a", "b", "c"))  # three of a batch of six
    throughput.on_train_batch_end(trainer, module, None, share, 0)
    trainer.global_step = 2
    throughput.on_train_batch_end(trainer, module, None, share, 1)
    assert module.value == 12 / 4
    assert 0.01 < module.logged["peak_memory_gb"] < 1000

    label = torch.zeros(5, dtype=torch.int64)
    whole = FactorBatch(tuple("abcde"), {}, pose=label, background=label, subject=label)
    throughput.on_train_batch_end(trainer, module, None, whole, 2)
    assert module.value == 5 / 2

    none = torch.zeros(2, 1, 1, 1)
    two = SubjectBatch(("a", "b", "c"), 0, ("a", "c"), ("", ""), none, none, none, none)  # the first of two processes
    throughput.on_train_batch_end(trainer, module, None, two, 3)
    assert module.value == 3 / 1

"""The loop that trains every pocket model: keyed by step, resumable, and the same when other processes draw views."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pocket.train as train
from contracts.errors import LikenessError
from pocket.models import training
from pocket.models.training import fit, generator


def views(step: int) -> tuple[np.ndarray, int]:
    return np.random.default_rng(step).normal(size=(4, 3)).astype(np.float32), os.getpid()


def trained(folder: Path, name: str, **settings: Any) -> tuple[dict[str, Tensor], set[int]]:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    drawn_by = set()

    def loss(step: int, drawn: tuple[np.ndarray, int]) -> tuple[Tensor, dict[str, Tensor]]:
        x, process = drawn
        drawn_by.add(process)
        value = (module(torch.from_numpy(x)) - torch.randn(4, 1, generator=generator(step))).square().mean()
        return value, {"loss": value.detach()}

    return fit(module, loss, 12, 1e-2, folder / f"{name}.pt", name, views=views, **settings), drawn_by


def test_views_drawn_by_other_processes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, by = trained(tmp_path, "here")
    assert by == {os.getpid()}
    monkeypatch.setattr(training, "drawing_processes", lambda: 2)
    there, by = trained(tmp_path, "there")
    assert len(by) == 2 and os.getpid() not in by
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_a_stopped_training_goes_on_in_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = trained(tmp_path, "whole")
    trained(tmp_path, "cut", until=5)
    monkeypatch.setattr(training, "drawing_processes", lambda: 2)
    resumed, _ = trained(tmp_path, "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("step", [0, 7, 11])
def test_what_is_not_finite_ends_the_training_and_is_not_saved(tmp_path: Path, step: int) -> None:
    module = nn.Linear(1, 1)

    def loss(at: int) -> tuple[Tensor, dict[str, float]]:
        value = module(torch.ones(1, 1)).square().mean()
        return value * float("nan") if at == step else value, {"loss": 1.0}

    with pytest.raises(RuntimeError, match=f"the loss is not finite at step {step}"):
        fit(module, loss, 12, 1e-2, tmp_path / "state.pt", "odd")
    assert not (tmp_path / "state.pt").exists()


def test_parts_side_by_side_say_which_of_them_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "load_bank", lambda *_, **__: None)
    monkeypatch.setattr(train, "bank_masks", lambda *_: None)
    monkeypatch.setattr(train, "train_parts", _ends_badly)
    monkeypatch.setattr(train, "_START", "fork")  # a new process would import everything first
    with pytest.raises(LikenessError, match=r"training of base, style failed"):
        train.train_side_by_side(["base", "style", "judge"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "judge", "style"]


def _ends_badly(parts: list[str], work: Path) -> None:
    (work / "+".join(parts)).touch()
    if parts != ["judge"]:
        raise SystemExit(3)

"""The share of a token's attention that lies on its subject, where masks and attention are known."""

from typing import Any

import numpy as np
import pytest
import torch

from claims import attention_focus
from datamodules.features.crops import SquareMask
from datamodules.index import PhotoFiles
from datamodules.sources import find_shards
from lightning_modules.sefi_ide import SefiIDE
from networks.attention import CrossAttention, cross_attention_layers
from pocket.tiny.world import TinyWorld
from tests.helpers.batches import SUBJECTS, build


@pytest.fixture
def module(tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> SefiIDE:
    monkeypatch.setattr(attention_focus, "find_shards", lambda _: find_shards(str(tiny_world.dataset)))
    monkeypatch.setattr(attention_focus, "cache_folder", lambda: tiny_world.cache)
    found = build(SefiIDE, str(tiny_world.base)).eval()
    assert isinstance(found, SefiIDE)
    return found


def mask_columns(monkeypatch: pytest.MonkeyPatch, **columns: int) -> None:
    """Give the photos of each subject a mask of its first so many columns of 64."""

    def mask(_: object, files: PhotoFiles, side: int) -> np.ndarray:
        found = np.zeros((side, side), np.uint8)
        found[:, : columns[files.photo.subject_id]] = 255
        return found

    monkeypatch.setattr(SquareMask, "of_photo", mask)


def test_all_attention_lies_on_a_subject_that_fills_the_image(module: SefiIDE, monkeypatch: pytest.MonkeyPatch) -> None:
    mask_columns(monkeypatch, s0000=64, s0001=0)
    assert attention_focus.attention_focus(module, SUBJECTS[:2]) == pytest.approx([1.0, 0.0], abs=1e-6)


def test_even_attention_lies_on_the_subject_by_its_area(module: SefiIDE, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that say nothing get the same attention everywhere."""
    for layer in cross_attention_layers(module.backbone.unet).values():
        torch.nn.init.zeros_(layer.to_k.weight)
    mask_columns(monkeypatch, s0000=32, s0001=20)
    assert attention_focus.attention_focus(module, SUBJECTS[:2]) == pytest.approx([32 / 64, 20 / 64], abs=1e-5)


def test_heads_and_layers_count_alike(module: SefiIDE, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to right, two heads look 5 : 1 and 1 : 1 in one layer, and 3 : 1 in the other one: 6 : 2 together."""
    left = torch.arange(module.attention_side).repeat(module.attention_side) < module.attention_side // 2

    def looks(ratio: float) -> torch.Tensor:
        return torch.where(left, ratio, 1.0)[:, None].expand(-1, 77)

    def denoise(z: torch.Tensor, t: torch.Tensor, conditioning: Any) -> None:
        layers = (p for p in module.backbone.unet.attn_processors.values() if isinstance(p, CrossAttention))
        for heads, layer in zip(((5.0, 1.0), (3.0, 3.0)), layers, strict=False):
            found = torch.stack([looks(ratio) for ratio in heads]).expand(len(z), -1, -1, -1)
            layer.noted = found, found

    monkeypatch.setattr(module, "denoise", denoise)
    mask_columns(monkeypatch, s0000=32)
    assert attention_focus.attention_focus(module, SUBJECTS[:1]) == pytest.approx([0.75])

"""A run becomes a shipped adapter: half the bytes, nothing of the machine that made it, listed in the manifest."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from contracts.errors import LikenessError
from networks.adapter_file import apply_adapter, read_adapter, save_adapter
from networks.weight_manifest import verify
from pocket.models import ship


class Trained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("seen", torch.tensor([3, 70_000]))


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Trained]:
    module = Trained()
    folder = tmp_path / "run"
    save_adapter(folder / "adapter.safetensors", module, {"method": "Any", "backbone": "b" * 64})
    (folder / "config.yaml").write_text("data:\n  cache_dir: /there\noutput: elsewhere/run\nsearch: runs/s.json\n")
    (folder / "manifest.json").write_text('{"method": "Any"}\n')
    return folder, module


def test_a_run_is_shipped_in_float16(run: tuple[Path, Trained], tmp_path: Path) -> None:
    folder, module = run
    shipped = ship.ship(folder, "any", tmp_path / "weights")
    tensors, metadata = read_adapter(shipped / "adapter.safetensors")
    assert tensors["layer.weight"].dtype == torch.float16 and tensors["seen"].tolist() == [3, 70_000]
    assert metadata == read_adapter(folder / "adapter.safetensors")[1]
    assert (shipped / "config.yaml").read_text() == "data:\n  cache_dir: null\noutput: runs/any\nsearch: null\n"
    assert json.loads((shipped / "manifest.json").read_text()) == {"method": "Any"}
    loaded = Trained()
    apply_adapter(shipped / "adapter.safetensors", loaded, "Any", "b" * 64)
    assert loaded.layer.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.layer.weight, module.layer.weight, rtol=1e-3, atol=1e-6)
    listed = json.loads((tmp_path / "weights" / "manifest.json").read_text())["files"]
    assert set(listed) == {f"adapters/any/{name}" for name in ("adapter.safetensors", *ship.FILES)}
    verify(tmp_path / "weights")


@pytest.mark.parametrize("missing", ["adapter.safetensors", *ship.FILES])
def test_an_unfinished_run_is_refused(run: tuple[Path, Trained], tmp_path: Path, missing: str) -> None:
    folder, _ = run
    (folder / missing).unlink()
    with pytest.raises(LikenessError, match=missing):
        ship.ship(folder, "any", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()

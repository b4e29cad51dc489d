import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from callbacks import run_folder
from callbacks.checkpoints import Checkpoints
from callbacks.run_folder import RunFolder, git_state, peak_memory
from lightning_modules.run import Run


def test_peak_memory_is_in_bytes() -> None:
    assert 10_000_000 < peak_memory(torch.device("cpu")) < 10**12


def test_git_state_names_the_commit_of_a_checkout() -> None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
    state = git_state()
    assert state["commit"] == head.strip() and isinstance(state["changed"], bool)


def test_without_git_the_state_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state() == {}


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_the_manifest_names_the_code_that_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the commit that is checked out when a long run ends."""
    checkout, run = tmp_path / "checkout", tmp_path / "run"
    checkout.mkdir()
    monkeypatch.setattr(run_folder, "__file__", str(checkout / "run_folder.py"))

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        found = subprocess.run(["git", *identity, *arguments], cwd=checkout, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    git("init")
    git("commit", "--allow-empty", "--message", "before")
    trained = git("rev-parse", "HEAD")
    data = SimpleNamespace(fingerprint="d", encoder_fingerprints={})
    trainer = SimpleNamespace(is_global_zero=True, datamodule=data, global_step=3, world_size=1, callbacks=[])
    backbone, device = SimpleNamespace(fingerprint="b"), torch.device("cpu")
    module = SimpleNamespace(save_adapter=lambda path: None, backbone=backbone, run_facts=dict, device=device)
    callback = RunFolder(Run(run), "a: 1\n", Checkpoints(Run(run), every=1))
    callback.load_state_dict({"seconds": 7200.0})  # of the starts before
    callback.on_fit_start(trainer, module)  # type: ignore[arg-type]
    git("commit", "--allow-empty", "--message", "meanwhile")
    (checkout / "new.py").touch()
    callback.on_fit_end(trainer, module)  # type: ignore[arg-type]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["git"] == {"commit": trained, "changed": False}
    assert 7200 <= manifest["seconds"] < 7800 and callback.state_dict()["seconds"] > 7200

import subprocess
from pathlib import Path

import pytest

from callbacks.run_folder import git_state, peak_memory, write_text


def test_a_small_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    write_text(path, "a: 1\n")
    write_text(path, "a: 2\n")
    assert path.read_text() == "a: 2\n"
    assert [file.name for file in path.parent.iterdir()] == ["config.yaml"]


def test_peak_memory_is_in_bytes() -> None:
    assert 10_000_000 < peak_memory() < 10**12


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

"""The manifest lists what is shipped."""

import json
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from pocket.models import manifest


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name, content in (("clip/b.onnx", b"clip weights"), ("base/a.json", b"{}"), (".hidden", b"not listed")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_it_lists_sizes_and_hashes_in_sorted_order_and_not_itself(weights: Path) -> None:
    manifest.write(weights)
    files = json.loads(manifest.write(weights).read_text())["files"]
    assert list(files) == ["base/a.json", "clip/b.onnx"]
    # printf 'clip weights' | sha256sum
    assert files["clip/b.onnx"] == {
        "bytes": 12,
        "sha256": "636cba6b3de795dddbe6b26ebc80b32324a8985dfb884c010a6a387ce08c9bdd",
    }


def test_writing_again_changes_nothing(weights: Path) -> None:
    before = manifest.write(weights).read_bytes()
    assert manifest.write(weights).read_bytes() == before


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="holds no weights"):
        manifest.write(tmp_path)


def test_the_command_says_what_is_wrong_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifest.write, "__defaults__", (tmp_path,))
    assert manifest.main() == 2
    assert capsys.readouterr().err.startswith("error: ")

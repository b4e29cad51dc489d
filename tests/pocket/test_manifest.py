"""The manifest finds what is missing, cut short or changed, and says what to do."""

import json
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from pocket import manifest


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "base" / "unet").mkdir(parents=True)
    (tmp_path / "base" / "unet" / "model.safetensors").write_bytes(b"unet weights")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "model.safetensors").write_bytes(b"clip weights")
    (tmp_path / ".hidden").write_bytes(b"not listed")
    manifest.write(tmp_path)
    return tmp_path


def test_the_manifest_lists_sizes_and_hashes_in_sorted_order(weights: Path) -> None:
    files = json.loads((weights / "manifest.json").read_text())["files"]
    assert list(files) == ["base/unet/model.safetensors", "clip/model.safetensors"]
    # printf 'clip weights' | sha256sum
    digest = "636cba6b3de795dddbe6b26ebc80b32324a8985dfb884c010a6a387ce08c9bdd"
    assert files["clip/model.safetensors"] == {"bytes": 12, "sha256": digest}


def test_writing_again_changes_nothing(weights: Path) -> None:
    before = (weights / "manifest.json").read_bytes()
    manifest.write(weights)
    assert (weights / "manifest.json").read_bytes() == before


def test_whole_weights_pass_from_the_top_and_from_a_folder_inside(weights: Path) -> None:
    manifest.verify(weights)
    manifest.verify(weights / "base")


def test_a_changed_byte_is_named_with_both_hashes_and_the_remedy(weights: Path) -> None:
    (weights / "clip" / "model.safetensors").write_bytes(b"clip weightz")
    with pytest.raises(LikenessError, match=r"clip/model\.safetensors has SHA-256 \w{64}.*`clip`.*pocket\.train"):
        manifest.verify(weights)
    manifest.verify(weights / "base")


def test_a_file_cut_short_is_named_with_both_sizes(weights: Path) -> None:
    (weights / "clip" / "model.safetensors").write_bytes(b"clip")
    with pytest.raises(LikenessError, match=r"model\.safetensors has 4 bytes, the manifest says 12"):
        manifest.verify(weights)


def test_a_missing_file_is_named(weights: Path) -> None:
    (weights / "base" / "unet" / "model.safetensors").unlink()
    with pytest.raises(LikenessError, match=r"base/unet/model\.safetensors is missing"):
        manifest.verify(weights)


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"base": 3}}', '{"files": []}'])
def test_a_damaged_manifest_is_named(weights: Path, text: str) -> None:
    (weights / "manifest.json").write_text(text)
    with pytest.raises(LikenessError, match=r"manifest\.json is not a manifest"):
        manifest.verify(weights)


def test_no_manifest_and_no_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"manifest\.json is missing"):
        manifest.verify(tmp_path)
    with pytest.raises(LikenessError, match="holds no weights"):
        manifest.write(tmp_path)

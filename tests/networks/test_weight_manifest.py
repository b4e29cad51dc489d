"""The manifest finds what is missing, cut short or changed, and says what to do."""

import json
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from networks.fingerprints import resolve_source
from networks.weight_manifest import verify, verify_if_listed
from pocket.models import manifest


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name in ("base/unet", "clip", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "base" / "unet" / "model.safetensors").write_bytes(b"unet weights")
    (tmp_path / "clip" / "model.safetensors").write_bytes(b"clip weights")
    manifest.write(tmp_path)
    return tmp_path


def test_whole_weights_pass_from_the_top_and_from_a_folder_inside(weights: Path) -> None:
    verify(weights)
    verify(weights / "base")


def test_a_changed_byte_is_named_with_both_hashes_and_the_remedy(weights: Path) -> None:
    (weights / "clip" / "model.safetensors").write_bytes(b"clip weightz")
    with pytest.raises(LikenessError, match=r"clip/model\.safetensors has SHA-256 \w{64}.*\w{64}: restore.*'clip'"):
        verify(weights)
    verify(weights / "base")


def test_a_file_cut_short_is_named_with_both_sizes(weights: Path) -> None:
    (weights / "clip" / "model.safetensors").write_bytes(b"clip")
    with pytest.raises(LikenessError, match=r"model\.safetensors has 4 bytes, the manifest says 12"):
        verify(weights)


def test_a_missing_file_is_named(weights: Path) -> None:
    (weights / "base" / "unet" / "model.safetensors").unlink()
    with pytest.raises(LikenessError, match=r"base/unet/model\.safetensors is missing"):
        verify(weights)


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"base": 3}}', '{"files": []}', '{"git": "abc"}'])
def test_a_damaged_manifest_is_named(weights: Path, text: str) -> None:
    (weights / "manifest.json").write_text(text)
    with pytest.raises(LikenessError, match=r"manifest\.json is not a manifest"):
        verify(weights)


def test_no_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"manifest\.json is missing"):
        verify(tmp_path)


def test_loaders_check_what_is_listed_and_leave_other_folders_alone(weights: Path, tmp_path: Path) -> None:
    verify_if_listed(weights / "other")
    verify_if_listed(weights / "clip")
    (weights / "clip" / "model.safetensors").write_bytes(b"clip weightz")
    with pytest.raises(LikenessError, match=r"clip/model\.safetensors has SHA-256"):
        verify_if_listed(weights / "clip")
    (weights / "manifest.json").write_text(json.dumps({"git": "a run's manifest"}))
    verify_if_listed(weights / "clip")


def test_a_source_whose_file_was_changed_is_refused(weights: Path) -> None:
    (weights / "base" / "unet" / "model.safetensors").write_bytes(b"unet weightz")
    with pytest.raises(LikenessError, match=r"unet/model\.safetensors has SHA-256"):
        resolve_source(str(weights / "base"))

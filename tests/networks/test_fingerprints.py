"""A fingerprint is of what is loaded, and only that is fetched."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects

from contracts.errors import LikenessError
from networks.adapter_file import read_adapter
from networks.backbone import backbone_fingerprint
from networks.fingerprints import fetched_files, folder_fingerprint
from pocket.models.paths import WEIGHTS
from pocket.tiny.components import tiny_clip

SD15 = [
    "README.md",
    "model_index.json",
    "v1-5-pruned.safetensors",
    "v1-inference.yaml",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/model.onnx",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]
"""As the files of a published base model are named."""
LOADED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in SD15:
        path = tmp_path / "base" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "base"


@pytest.mark.parametrize("name", SD15)
def test_what_is_loaded_counts_and_nothing_else(base: Path, name: str) -> None:
    before = folder_fingerprint(base)
    (base / name).write_text("another one")
    assert (folder_fingerprint(base) != before) == (name in LOADED)
    (base / name).unlink()
    assert (folder_fingerprint(base) != before) == (name in LOADED)


def test_only_what_is_loaded_is_fetched() -> None:
    assert set(filter_repo_objects(SD15, **fetched_files(pipeline=True))) == LOADED
    shards = ["unet/diffusion_pytorch_model-00001-of-00002.safetensors", "text_encoder_2/model.safetensors"]
    assert list(filter_repo_objects(shards, **fetched_files(pipeline=True))) == shards
    clip = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "vocab.json"]
    others = ["pytorch_model.bin", "model.fp16.safetensors", "onnx/model.onnx", "onnx/config.json", "README.md"]
    assert list(filter_repo_objects([*clip, *others], **fetched_files(pipeline=False))) == clip


@pytest.mark.parametrize("adapter", [folder.name for folder in sorted((WEIGHTS / "adapters").iterdir())])
def test_the_shipped_base_is_the_one_that_the_shipped_adapters_name(adapter: str) -> None:
    _, metadata = read_adapter(WEIGHTS / "adapters" / adapter / "adapter.safetensors")
    assert metadata["backbone"] == backbone_fingerprint(str(WEIGHTS / "base"))


def test_of_another_model_its_own_folder_counts(tmp_path: Path) -> None:
    clip = tiny_clip(tmp_path / "clip")
    before = folder_fingerprint(clip)
    (clip / "onnx").mkdir()
    shutil.copy(clip / "config.json", clip / "onnx" / "config.json")
    shutil.copy(clip / "model.safetensors", clip / "model.fp16.safetensors")
    (clip / "model.onnx").write_text("the same once more")
    assert folder_fingerprint(clip) == before
    (clip / "tokenizer.json").write_text("{}")
    assert folder_fingerprint(clip) != before


def test_a_folder_without_weights_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(LikenessError, match="no weights in"):
        folder_fingerprint(tmp_path)

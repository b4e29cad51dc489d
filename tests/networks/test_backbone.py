import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from contracts.errors import LikenessError
from networks.backbone import (
    Backbone,
    backbone_fingerprint,
    backbone_latent_shape,
    backbone_resolution,
    empty_backbone,
    load_backbone,
    truncated_tokens,
)
from pocket.tiny.components import LATENT_SIDE, SIDE, TEXT_LENGTH, TEXT_WIDTH


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_folder, tmp_path / "base"))


def test_shapes_of_what_goes_in_and_out(backbone: Backbone, base_folder: Path) -> None:
    assert backbone.latent_shape == backbone_latent_shape(str(base_folder)) == (4, LATENT_SIDE, LATENT_SIDE)
    assert backbone.resolution == SIDE
    assert backbone.encode_text(["a person", ""]).states.shape == (2, TEXT_LENGTH, TEXT_WIDTH)
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    moments = backbone.encode_moments(images)
    assert moments.shape == (2, 8, LATENT_SIDE, LATENT_SIDE)
    torch.testing.assert_close(backbone.encode_moments(torch.from_numpy(images)), moments)
    decoded = backbone.decode(moments[:, :4])
    assert decoded.shape == (2, SIDE, SIDE, 3) and decoded.dtype == torch.uint8


def test_encoders_are_those_of_the_stock_pipeline(backbone: Backbone, base_folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(str(base_folder))
    prompt = "a photo of a person, wearing a red top hat, " * 8
    expected = pipeline.encode_prompt(prompt, torch.device("cpu"), 1, False)[0]
    torch.testing.assert_close(backbone.encode_text([prompt]).states, expected)
    pixels = torch.rand(1, 3, SIDE, SIDE)
    images = (pixels * 255).round().to(torch.uint8)
    posterior = pipeline.vae.encode(images.float() / 127.5 - 1).latent_dist
    moments = backbone.encode_moments(images.permute(0, 2, 3, 1))
    torch.testing.assert_close(moments, torch.cat([posterior.mean, posterior.logvar], dim=1))


def test_latents_are_sampled_from_the_posterior_and_scaled(backbone: Backbone) -> None:
    moments = torch.randn(2, 8, 4, 4)
    noise = torch.randn(2, 4, 4, 4)
    mean = moments[:, :4]
    log_variance = moments[:, 4:]
    expected = (mean + torch.exp(log_variance / 2) * noise) * backbone.vae.config.scaling_factor
    torch.testing.assert_close(backbone.latents_from_moments(moments, noise), expected)


def test_everything_is_frozen_and_stays_so(backbone: Backbone) -> None:
    torch.nn.ModuleDict({"backbone": backbone}).train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert all(parameter.dtype == torch.float32 for parameter in backbone.parameters())


def test_the_fingerprint_is_of_the_contents_not_of_the_place(copy: Path, base_folder: Path) -> None:
    assert (
        backbone_fingerprint(str(copy))
        == backbone_fingerprint(str(base_folder))
        == load_backbone(str(copy)).fingerprint
    )


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer/tokenizer.json"]
)
def test_one_other_byte_is_another_fingerprint(copy: Path, name: str) -> None:
    before = backbone_fingerprint(str(copy))
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(data)
    assert backbone_fingerprint(str(copy)) != before


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_one_line(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(LikenessError, match=r"model.backbone: cannot load .*base") as raised:
        load_backbone(str(copy))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ],
)
def test_weights_that_were_cut_short_are_one_line(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(LikenessError, match=r"model.backbone: cannot load .*base") as raised:
        load_backbone(str(copy))
    assert "\n" not in str(raised.value)


def test_a_missing_weight_is_not_made_up(copy: Path) -> None:
    path = copy / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    name = min(name for name in weights if "token_embedding" in name)
    save_file({key: value for key, value in weights.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(LikenessError, match=r"model.backbone: cannot load .*text_encoder lack .*token_embedding"):
        load_backbone(str(copy))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("unet/config.json", {"in_channels": 9}, "takes 9 channels and its VAE has 4, as inpainting"),
        ("unet/config.json", {"in_channels": 5}, "takes 5 channels"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "it has no folder text_encoder_2"),
        ("unet/config.json", {"addition_embed_type": "text_image"}, "addition_embed_type 'text_image'"),
        ("vae/config.json", {"latents_mean": [0.1] * 4}, "its VAE has latents_mean"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "time_cond_proj_dim 256"),
        ("unet/config.json", {"class_embed_type": "projection"}, "class_embed_type 'projection'"),
        ("unet/config.json", {"sample_size": None}, "sample_size None, and must say the side"),
        ("unet/config.json", {"sample_size": [64, 64]}, "sample_size [64, 64]"),
        ("unet/config.json", {"cross_attention_dim": 7}, "reads text states of width 7"),
        ("unet/config.json", {"_class_name": "UNet3DConditionModel"}, "its unet is a UNet3DConditionModel"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "its vae is a AutoencoderTiny"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type 'sample'"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 500}, "500 timesteps and not 1000"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": None}, "says no model_max_length"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**30}, "says no model_max_length"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 99}, "makes 99 tokens"),
    ],
)  # fmt: skip
def test_a_base_model_of_another_kind_is_refused_before_its_weights_are_read(
    copy: Path, file: str, changes: dict, words: str
) -> None:
    settings = json.loads((copy / file).read_text()) | changes
    (copy / file).write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    for weights in copy.rglob("*.safetensors"):
        weights.write_bytes(b"never read")
    for load in (load_backbone, backbone_latent_shape, backbone_resolution):
        with pytest.raises(LikenessError) as raised:
            load(str(copy))
        assert words in str(raised.value) and "what works is a text-to-image" in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", ["binary", "no JSON", "a list", "a folder", "second text encoder"])
def test_a_damaged_configuration_is_one_line(copy: Path, damage: str) -> None:
    file = copy / "unet" / "config.json"
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage == "second text encoder":
        (copy / "text_encoder_2").mkdir()
    else:
        file.write_bytes({"binary": b"\xff\x00", "no JSON": b"{", "a list": b"[]"}[damage])
    with pytest.raises(LikenessError, match=r"^model.backbone: cannot load ") as raised:
        load_backbone(str(copy))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c"])
def test_a_missing_folder_is_one_line(source: str) -> None:
    with pytest.raises(LikenessError, match=r"no model folder at .*; give a folder or a hub name such as owner/name"):
        load_backbone(source)


def test_an_empty_folder_has_no_weights(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match="no weights in"):
        backbone_fingerprint(str(tmp_path))


def test_a_hub_name_offline_says_how_to_allow_the_download() -> None:
    with pytest.raises(
        LikenessError, match="model 'nobody/nothing' is not on this machine: set HF_HUB_OFFLINE=0"
    ) as raised:
        load_backbone("nobody/nothing")
    assert "\n" not in str(raised.value)


def test_truncated_tokens_counts_what_does_not_fit(backbone: Backbone) -> None:
    tokenizer: CLIPTokenizer = backbone.tokenizer
    room = TEXT_LENGTH - 2
    assert [truncated_tokens(tokenizer, "a " * n) for n in (1, room, room + 1, room + 5)] == [0, 0, 1, 5]


def test_an_empty_backbone_has_the_shapes_and_no_weights(base_folder: Path, backbone: Backbone) -> None:
    empty = empty_backbone(base_folder)
    assert all(value.is_meta for value in empty.parameters())
    shapes = {name: value.shape for name, value in backbone.named_parameters()}
    assert {name: value.shape for name, value in empty.named_parameters()} == shapes
    assert empty.latent_shape == backbone.latent_shape

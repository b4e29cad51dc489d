"""Every kind of image network is pooled the way it says, as transformers itself would, or refused in one line."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModel,
    BeitConfig,
    BertConfig,
    CLIPConfig,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    ConvNextConfig,
    Data2VecVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    PoolFormerConfig,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    SiglipConfig,
    SiglipVisionConfig,
    SwinConfig,
    ViTConfig,
    ViTImageProcessorPil,
    ViTMAEConfig,
    ViTModel,
)

from contracts.errors import LikenessError
from networks.image_backbone import ImageBackbone, pooling_of
from pocket.tiny.components import tiny_vit

LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**LAYERS, "intermediate_size": 16, "vocab_size": 99}
TOWER = {**LAYERS, "image_size": 32, "patch_size": 16}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 48, 40, 3), dtype=np.uint8)


def saved(model: PreTrainedModel, folder: Path, side: int = 32) -> str:
    """The model with random weights and a processor, in a folder as published ones are."""
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
    return str(folder)


def pixels(folder: str, images: np.ndarray) -> Tensor:
    return ViTImageProcessorPil.from_pretrained(folder)(list(images), return_tensors="pt")["pixel_values"]


def first_token(output: Any) -> Tensor:
    return output.last_hidden_state[:, 0]


def pooled(output: Any) -> Tensor:
    return output.pooler_output.flatten(1)


def mean_of_patches(output: Any) -> Tensor:
    return output.last_hidden_state[:, 1:].mean(dim=1)


KINDS: dict[str, tuple[PretrainedConfig, str, Callable[[Any], Tensor]]] = {
    "ViT": (ViTConfig(**TOWER), "cls", first_token),
    "DINOv2": (Dinov2Config(**TOWER), "cls", first_token),
    "DINOv2 with registers": (Dinov2WithRegistersConfig(**TOWER), "cls", first_token),
    "ResNet": (ResNetConfig(**STAGES, embedding_size=8), "pooler", pooled),
    "ConvNeXt": (ConvNextConfig(**STAGES, num_stages=2), "pooler", pooled),
    "Swin": (SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=32, window_size=4), "pooler", pooled),
    "CLIP's tower": (CLIPVisionConfig(**TOWER), "pooler", pooled),
    "SigLIP's tower": (SiglipVisionConfig(**TOWER), "pooler", pooled),
    "BEiT": (BeitConfig(**TOWER, use_mean_pooling=True), "mean", pooled),
    "BEiT by its class token": (BeitConfig(**TOWER, use_mean_pooling=False), "cls", first_token),
    "Data2Vec": (Data2VecVisionConfig(**TOWER), "mean", mean_of_patches),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_pooled_as_it_says(kind: str, tmp_path: Path, images: np.ndarray) -> None:
    config, pooling, of_output = KINDS[kind]
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    source = saved(model, tmp_path)
    assert pooling_of(tmp_path) == pooling
    with torch.no_grad():
        expected = of_output(model(pixel_values=pixels(source, images)))
    judge = ImageBackbone(source)
    assert judge.pooling == pooling
    torch.testing.assert_close(judge.image_features(images), F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=8),
        SiglipConfig(text_config=TEXT, vision_config=TOWER),
    ],
    ids=["CLIP", "SigLIP"],
)
def test_a_model_of_images_and_texts_gives_its_image_embedding(
    config: PretrainedConfig, tmp_path: Path, images: np.ndarray
) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    source = saved(model, tmp_path)
    given = pixels(source, images)
    with torch.no_grad():
        expected = model(pixel_values=given, input_ids=torch.tensor([[0, 1]])).image_embeds
    found = ImageBackbone(source).image_features(images)
    torch.testing.assert_close(found, F.normalize(expected, dim=-1), atol=1e-5, rtol=0)
    assert pooling_of(tmp_path) == "projected"


def test_a_tower_with_a_projection_gives_what_it_projects(tmp_path: Path, images: np.ndarray) -> None:
    torch.manual_seed(0)
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**TOWER, projection_dim=8)).eval()
    source = saved(model, tmp_path)
    with torch.no_grad():
        expected = F.normalize(model(pixel_values=pixels(source, images)).image_embeds, dim=-1)
    torch.testing.assert_close(ImageBackbone(source).image_features(images), expected, atol=1e-5, rtol=0)
    assert expected.shape == (3, 8) and pooling_of(tmp_path) == "projected"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (PoolFormerConfig(hidden_sizes=[8] * 4, depths=[1] * 4), "it has no class token and no pooled output"),
        (ViTMAEConfig(**TOWER), "gives another feature of the same image each time"),
        (BertConfig(**TEXT), "cannot judge an image"),
    ],
    ids=["no vector", "random patches", "texts"],
)
def test_what_gives_no_vector_of_an_image_is_refused_in_one_line(
    config: PretrainedConfig, said: str, tmp_path: Path
) -> None:
    source = saved(AutoModel.from_config(config), tmp_path)
    with pytest.raises(LikenessError, match=rf"^judges\.image_backbone: .*{said}") as caught:
        ImageBackbone(source)
    assert "\n" not in str(caught.value)


def test_a_pooler_that_is_needed_and_not_there_is_named(tmp_path: Path) -> None:
    """The head of SigLIP would be random. DINO's class token needs no pooler."""
    source = saved(AutoModel.from_config(SiglipVisionConfig(**TOWER, vision_use_head=False)), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"vision_use_head": false', '"vision_use_head": true'))
    with pytest.raises(LikenessError, match=r"the weights in .* lack head\."):
        ImageBackbone(source)


def test_published_dino_weights_have_no_pooler(folder: Path, images: np.ndarray) -> None:
    model = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = F.normalize(first_token(model(pixel_values=pixels(str(folder), images))), dim=-1)
    torch.testing.assert_close(ImageBackbone(str(folder)).image_features(images), expected, atol=1e-5, rtol=0)


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    for load in (lambda: ImageBackbone(str(tmp_path)), lambda: pooling_of(tmp_path)):
        with pytest.raises(LikenessError, match=r"judges\.image_backbone: cannot load"):
            load()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("known", [True, False])
def test_code_that_comes_with_a_model_never_runs(folder: Path, tmp_path: Path, name: str, known: bool) -> None:
    copy, marker = Path(shutil.copytree(folder, tmp_path / "vit")), tmp_path / "ran"
    (copy / "code.py").write_text(f"open({str(marker)!r}, 'w')\nclass Any: pass\n")
    settings = json.loads((copy / name).read_text())
    kinds = ("AutoConfig", "AutoModel", "AutoImageProcessor")
    settings["auto_map"] = {kind: ["code.Any", "code.Any"] if "Processor" in kind else "code.Any" for kind in kinds}
    if not known:
        settings |= {"model_type": "unheard_of", "image_processor_type": "UnheardOf"}
    (copy / name).write_text(json.dumps(settings))
    with contextlib.suppress(LikenessError):  # which it need not be where stock code knows the model
        ImageBackbone(str(copy))
    assert not marker.exists()
    if not known:
        with pytest.raises(LikenessError, match=r"judges\.image_backbone: cannot load") as raised:
            ImageBackbone(str(copy))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("images", [np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 3, 64, 64), np.uint8)])
def test_another_range_or_order_is_refused(folder: Path, images: np.ndarray) -> None:
    """Images in 0..1 or -1..1, or with channels first, would give numbers too, but wrong ones."""
    with pytest.raises(ValueError, match="expected uint8 images"):
        ImageBackbone(str(folder)).image_features(images)

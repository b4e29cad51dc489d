"""A configuration with a value that nobody can have meant is one line, whichever model it is of."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import LikenessError
from networks.backbone import load_backbone
from networks.clip_image import load_clip_image
from networks.clip_judge import ClipJudge
from networks.image_backbone import ImageBackbone, pooling_of
from pocket.tiny.components import tiny_clip, tiny_vit

Load = Callable[[str], object]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"clip": tiny_clip(root / "clip"), "vit": tiny_vit(root / "vit"), "base": base_folder}


@pytest.mark.parametrize(
    ("model", "part", "loads"),
    [
        ("clip", "vision_config", [ClipJudge, load_clip_image]),
        ("vit", "", [ImageBackbone, lambda folder: pooling_of(Path(folder))]),
    ],
)
@pytest.mark.parametrize(
    "odd", [{"hidden_size": "x"}, {"num_attention_heads": 0}, {"patch_size": None}, {"hidden_act": "nobody's"}]
)
def test_of_a_model_of_images(
    models: dict[str, Path], tmp_path: Path, model: str, part: str, loads: list[Load], odd: dict
) -> None:
    file = Path(shutil.copytree(models[model], tmp_path / model)) / "config.json"
    settings = json.loads(file.read_text())
    (settings[part] if part else settings).update(odd)
    file.write_text(json.dumps(settings))
    for load in loads:
        refused_in_one_line(load, file.parent)


@pytest.mark.parametrize(
    ("part", "odd"),
    [
        ("unet", {"block_out_channels": 5}),
        ("unet", {"attention_head_dim": 0}),
        ("vae", {"act_fn": 5}),
        ("text_encoder", {"hidden_act": "nobody's"}),
        ("text_encoder", {"num_attention_heads": 0}),
    ],
)
def test_of_a_base_model(models: dict[str, Path], tmp_path: Path, part: str, odd: dict) -> None:
    file = Path(shutil.copytree(models["base"], tmp_path / "base")) / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    refused_in_one_line(load_backbone, tmp_path / "base")


@pytest.mark.parametrize("named", [5, [5], ["OddVisionModelWithProjection"], ["CLIPVisionModelWithProjection"]])
def test_an_image_network_that_names_another_class(models: dict[str, Path], tmp_path: Path, named: object) -> None:
    file = Path(shutil.copytree(models["vit"], tmp_path / "vit")) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": named}))
    refused_in_one_line(ImageBackbone, file.parent)
    refused_in_one_line(lambda folder: pooling_of(Path(folder)), file.parent)


def refused_in_one_line(load: Load, folder: Path) -> None:
    with pytest.raises(LikenessError) as caught:
        load(str(folder))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil, CLIPModel

from contracts.errors import LikenessError
from networks.clip_image import clip_image_fingerprint, load_clip_image
from pocket.tiny.components import SIDE, TEXT_WIDTH, tiny_clip

IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip-image") / "clip")


def test_features_are_the_pooled_ones_before_the_projection(folder: Path) -> None:
    encoder = load_clip_image(str(folder))
    features = encoder.encode(IMAGES)
    assert features.shape == (3, encoder.width) == (3, TEXT_WIDTH)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=list(IMAGES), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        expected = model.vision_model(pixel_values=pixels).pooler_output
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.encode(torch.from_numpy(IMAGES)), features)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_the_fingerprint_needs_no_weights(folder: Path) -> None:
    assert clip_image_fingerprint(str(folder)) == load_clip_image(str(folder)).fingerprint


@pytest.mark.parametrize("name", ["preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(LikenessError, match="CLIP image encoder: cannot load") as raised:
        load_clip_image(str(copy))
    assert "\n" not in str(raised.value)

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import ViTImageProcessorPil, ViTModel

from contracts.errors import LikenessError
from networks.image_backbone import ImageBackbone
from tests.helpers.tiny import tiny_vit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vit(tmp_path_factory.mktemp("vit"))


def test_features_are_the_stock_models_class_token(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 40, 3), dtype=np.uint8)
    model = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    pixels = ViTImageProcessorPil.from_pretrained(folder)(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = F.normalize(model(pixel_values=pixels).last_hidden_state[:, 0], dim=-1)
    torch.testing.assert_close(ImageBackbone(str(folder)).image_features(images), expected, atol=1e-5, rtol=0)


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"judges\.image_backbone: cannot load"):
        ImageBackbone(str(tmp_path))


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

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from contracts.errors import LikenessError
from networks.clip_judge import ClipJudge
from networks.fingerprints import folder_fingerprint
from pocket.tiny.components import CAPTIONS, TEXT_LENGTH, tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def judge(folder: Path) -> ClipJudge:
    return ClipJudge(str(folder))


def photos(count: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (96, 80)])
def test_features_equal_the_stock_model_forward(folder: Path, judge: ClipJudge, size: tuple[int, int]) -> None:
    images = photos(3, *size)
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model(**tokenizer(CAPTIONS, padding=True, return_tensors="pt"), pixel_values=pixels)
    torch.testing.assert_close(judge.image_features(images), out.image_embeds, atol=1e-5, rtol=0)
    features, cut = judge.text_features(CAPTIONS)
    torch.testing.assert_close(features, out.text_embeds, atol=1e-5, rtol=0)
    assert cut == [0, 0, 0]


def test_a_long_text_keeps_its_end_token_and_is_counted(folder: Path, judge: ClipJudge) -> None:
    long = ", ".join(CAPTIONS * 4)
    features, (cut,) = judge.text_features([long])
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert cut == len(tokenizer(long)["input_ids"]) - TEXT_LENGTH > 0
    stock = tokenizer(long, truncation=True, max_length=TEXT_LENGTH, return_tensors="pt")
    assert stock["input_ids"][0, -1] == tokenizer.eos_token_id
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        expected = model.text_projection(model.text_model(**stock).pooler_output)
    torch.testing.assert_close(features, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5, rtol=0)


def test_empty_and_odd_texts_have_features(judge: ClipJudge) -> None:
    features, cut = judge.text_features(["", "\U0001f600 ../\n אבג"])
    assert torch.isfinite(features).all()
    assert cut[0] == 0


def test_floats_are_refused(judge: ClipJudge) -> None:
    with pytest.raises(ValueError, match="uint8"):
        judge.image_features(photos(1).astype(np.float32))


def test_fingerprint_follows_the_preprocessing(folder: Path, judge: ClipJudge, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert folder_fingerprint(copy) == judge.fingerprint
    CLIPImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(copy)
    assert folder_fingerprint(copy) != judge.fingerprint


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"no model folder at .*nowhere"):
        ClipJudge(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_a_clip_that_lacks_a_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(LikenessError, match="cannot load the CLIP in") as raised:
        ClipJudge(str(copy))
    assert "\n" not in str(raised.value)

"""Captions of a captioning model at the smallest size, and the template."""

from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor

from contracts.errors import LikenessError
from curation.captions import Captioner, template
from tests.helpers.photos import encoded, photo

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "photo", "of", "person"]


def tiny_captioner(folder: Path) -> Path:
    """A folder with a BLIP of one layer per tower, with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    small |= {"projection_dim": 16}
    ids = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**small, **ids, "encoder_hidden_size": 16, "vocab_size": len(WORDS)}
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=16)
    )
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def test_a_model_writes_a_line_for_each_image(tmp_path: Path) -> None:
    captioner = Captioner(str(tiny_captioner(tmp_path / "blip")))
    images = [encoded(photo("q0", 0)), encoded(photo("q1", 1, 80), "JPEG")]
    written = captioner.captions(images)
    assert len(written) == 2
    assert all(set(text.split()) <= set(WORDS) and text for text in written)
    assert captioner.captions(images[1:]) == written[1:]


def test_a_folder_that_writes_no_captions_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(LikenessError, match="--captioner: cannot load") as caught:
        Captioner(str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(LikenessError, match="no model folder"):
        Captioner(str(tmp_path / "nowhere"))


def test_the_template_has_the_right_article() -> None:
    assert template("person") == "a photo of a person"
    assert template("old car") == "a photo of an old car"

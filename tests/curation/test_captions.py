"""Captions of a captioning model at the smallest size, of words that a CLIP chooses, and the template."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor

from contracts.errors import LikenessError
from curation.captions import PLACES, Captioner, WordChooser, template
from networks.clip_judge import ClipJudge
from pocket.models.paths import CLIP
from pocket.render.factors import BACKGROUNDS, STYLES, draw_shot, draw_subject
from pocket.render.renderer import render
from pocket.tiny.world import TinyWorld
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
    written = captioner.captions(images, ["person"] * 2, [True] * 2)
    assert len(written) == 2
    assert all(set(text.split()) <= set(WORDS) and text for text in written)
    assert captioner.captions(images[1:], ["person"], [True]) == written[1:]


def test_a_folder_that_writes_no_captions_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(LikenessError, match="--captioner: cannot load") as caught:
        Captioner(str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(LikenessError, match="no model folder"):
        Captioner(str(tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def chooser() -> WordChooser:
    return WordChooser(ClipJudge(str(CLIP)))


def test_words_that_clip_is_sure_of_are_right(chooser: WordChooser) -> None:
    shots = [
        draw_shot(f"words/{style}/{place}", None, place, style, accessories=False)
        for style in STYLES
        for place in BACKGROUNDS
    ]
    pictures = [encoded(render(draw_subject(f"words{i}"), shot).image) for i, shot in enumerate(shots)]
    captions = chooser.captions(pictures, ["person"] * len(shots), [True] * len(shots))
    for caption, shot in zip(captions, shots, strict=True):
        assert caption.startswith(f"{template('person', shot.style)}"), (caption, shot)
    shirts = [f"in an {s.cloth_colour} " if s.cloth_colour[0] == "o" else f"in a {s.cloth_colour} " for s in shots]
    dressed = [(caption, shirt) for caption, shirt in zip(captions, shirts, strict=True) if " shirt" in caption]
    assert len(dressed) > 0.6 * len(shots)
    assert np.mean([shirt in caption for caption, shirt in dressed]) > 0.85  # sketches have little colour
    smiles = [
        ("smiling" in caption, shot.expression == "smiling") for caption, shot in zip(captions, shots, strict=True)
    ]
    assert np.mean([said == true for said, true in smiles]) > 0.85
    placed = [(caption, shot.background) for caption, shot in zip(captions, shots, strict=True) if said(caption)]
    assert len(placed) > 0.4 * len(shots)
    assert np.mean([place in said(caption) for caption, place in placed]) > 0.9


def said(caption: str) -> str:
    """The place that a caption names."""
    return next((place for place in PLACES if caption.endswith(f", {place}")), "")


def test_a_caption_depends_on_its_own_picture_alone(chooser: WordChooser) -> None:
    pictures = [encoded(photo(f"q{i}", i, 64 + 16 * i)) for i in range(3)]
    together = chooser.captions(pictures, ["person"] * 3, [True] * 3)
    assert together == [chooser.captions([one], ["person"], [True])[0] for one in pictures]


def test_a_thing_wears_nothing(chooser: WordChooser) -> None:
    (caption,) = chooser.captions([encoded(photo("q0", 0))], ["old car"], [False])
    assert "old car" in caption and "shirt" not in caption


def test_a_clip_that_is_sure_of_nothing_says_nothing(tiny_world: TinyWorld) -> None:
    clip = ClipJudge(str(tiny_world.clip))
    clip.model.logit_scale.data.zero_()
    unsure = WordChooser(clip)
    assert unsure.captions([encoded(photo("q0", 0))], ["person"], [True]) == [""]


def test_the_template_has_the_right_article() -> None:
    assert template("person") == "a photo of a person"
    assert template("old car") == "a photo of an old car"
    assert template("person", "oil painting") == "an oil painting of a person"

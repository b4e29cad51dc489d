"""Real components at the smallest size that works, with random weights, for tests of the evaluation."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from pocket.tokenizer import build_tokenizer

SIDE = 64  # pixels
TEXT_LENGTH = 24
CAPTIONS = [
    "a photo of a person, wearing a red top hat, in a garden",
    "a pencil sketch of a person on a beach",
    "an oil painting of a person at sunset",
]


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer over a few captions."""
    build_tokenizer(CAPTIONS, folder)
    return CLIPTokenizer.from_pretrained(folder, model_max_length=TEXT_LENGTH)


def tiny_clip(folder: Path) -> Path:
    """A folder with a CLIP of one layer per tower, its tokenizer and image processor."""
    tokenizer = tiny_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": TEXT_LENGTH, "projection_dim": 16, **ids}
    vision = {**small, "image_size": SIDE, "patch_size": 16, "projection_dim": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    return folder

"""A CLIP tokenizer over the caption vocabulary: byte-level BPE in which every caption word is one token."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import pre_tokenizers, trainers
from transformers import CLIPTokenizer

TEXT_LENGTH = 64
_START = "<|startoftext|>"
_END = "<|endoftext|>"


def build_tokenizer(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Learn merges until every word of the captions is one token; save what stock ``CLIPTokenizer`` loads.

    Any other text still works: it falls apart into bytes. As in CLIP, the start and end tokens have the last ids.
    """
    words = sorted({word for text in captions for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    blank = CLIPTokenizer()
    # Named first, because the trainer numbers what it meets on the way in the order of a hash map.
    known = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    trainer = trainers.BpeTrainer(
        vocab_size=20_000, special_tokens=known, end_of_word_suffix="</w>", show_progress=False
    )
    blank.backend_tokenizer.train_from_iterator([words], trainer)
    learnt = blank.backend_tokenizer.get_vocab()
    specials = {_START, _END}
    tokens = [t for t, _ in sorted(learnt.items(), key=lambda item: item[1]) if t not in specials]
    vocab = {token: i for i, token in enumerate([*tokens, _START, _END])}
    merges = _merges(blank)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _merges(tokenizer: CLIPTokenizer) -> list[tuple[str, str]]:
    return [tuple(m) for m in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]

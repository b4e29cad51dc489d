"""Load parts of models from folders, complete or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import diffusers
import torch
import transformers
from diffusers import ModelMixin
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTokenizer

UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
)
"""What the libraries raise for files that are missing, damaged or of other shapes. The last four come of configurations
with a value of another type or kind, such as no heads or an activation that nobody knows."""

LONGEST_PROMPT = 100_000
"""In tokens. A tokenizer whose file says no length has a number in its place that is larger than any."""

Model = TypeVar("Model", bound=nn.Module)


def load_model(kind: type[Model], folder: Path, subfolder: str = "") -> Model:
    """A diffusers or transformers model in float32, from safetensors.

    Raises one of :data:`UNREADABLE`, also where a weight is missing: the libraries would fill it with random numbers.
    The message says ``subfolder``.
    """
    try:
        return _load(kind, folder, subfolder)
    except UNREADABLE as error:
        if not subfolder:
            raise
        raise ValueError(f"{subfolder}: {first_line(error)}") from error


def _load(kind: type[Model], folder: Path, subfolder: str) -> Model:
    precision = {"torch_dtype" if issubclass(kind, ModelMixin) else "dtype": torch.float32}
    with quiet_loading():
        model, found = kind.from_pretrained(  # type: ignore[attr-defined]
            folder,
            subfolder=subfolder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **precision,
        )
    if found["missing_keys"]:
        raise ValueError(f"the weights in {folder / subfolder} lack {min(found['missing_keys'])}")
    return model


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Only errors, and no progress bars, from transformers and diffusers inside the block.

    Without it, loading a part of a checkpoint prints a page of notes about the rest of it.
    """
    levels = [(library, library.utils.logging.get_verbosity()) for library in (transformers, diffusers)]
    for library, _ in levels:
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in levels:
            library.utils.logging.set_verbosity(level)
            library.utils.logging.enable_progress_bar()


def load_tokenizer(folder: Path, subfolder: str = "") -> CLIPTokenizer:
    """A CLIP tokenizer. Raises one of :data:`UNREADABLE`, also without files: the library would give an empty one."""
    with quiet_loading():
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder=subfolder, local_files_only=True)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(f"no tokenizer in {folder / subfolder}")
    if tokenizer.model_max_length > LONGEST_PROMPT:
        raise ValueError(f"the tokenizer in {folder / subfolder} says no model_max_length, so no prompt would be cut")
    return tokenizer


def first_line(error: BaseException) -> str:
    """The first line of an error's message. Errors of ours take one line, the libraries write paragraphs."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

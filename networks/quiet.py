"""Loading a part of a checkpoint without a page of notes about the rest of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import diffusers
import transformers


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Errors only, and no progress bars, from transformers and diffusers inside the block."""
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

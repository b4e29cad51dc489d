"""Captions: those that the user gives, then a captioning model's, then a template."""

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from contracts.errors import LikenessError
from curation.metadata import one_line
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.pretrained import UNREADABLE, first_line, quiet_loading

_TOKENS = 40  # of a caption at most


def template(noun: str) -> str:
    """The caption of a photo of which nothing is known but its class noun."""
    article = "an" if noun[0].lower() in "aeiou" else "a"
    return f"a photo of {article} {noun}"


class Captioner:
    """A captioning model in transformers' form, such as BLIP or GIT.

    Raises:
        LikenessError: the folder is missing, incomplete, or holds no model that writes a text for an image.
    """

    def __init__(self, source: str) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._source, folder = source, resolve_source(source)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_loading():
                self._processor = AutoProcessor.from_pretrained(folder, backend="pil", **options)
                self._model, found = AutoModelForImageTextToText.from_pretrained(
                    folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
                )
        except UNREADABLE as error:
            raise LikenessError(f"--captioner: cannot load {source}: {first_line(error)}") from error
        if found["missing_keys"]:
            raise LikenessError(f"--captioner: the weights in {source} lack {min(found['missing_keys'])}")
        self._model.eval()
        self.fingerprint = folder_fingerprint(folder)

    @torch.inference_mode()
    def captions(self, images: Sequence[bytes]) -> list[str]:
        """A caption for each image file, on one line; empty where the model has nothing to say."""
        opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in images]
        pixels = self._processor(images=opened, return_tensors="pt")
        try:
            with quiet_loading():
                tokens = self._model.generate(
                    pixel_values=pixels["pixel_values"], max_new_tokens=_TOKENS, do_sample=False
                )
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:  # a model that must be asked something
            raise LikenessError(
                f"--captioner {self._source} writes no caption for an image alone ({first_line(error)}): give a model "
                "such as BLIP or GIT"
            ) from error
        return [one_line(text) for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]

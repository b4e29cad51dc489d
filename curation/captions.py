"""Captions: those that the user gives, then a captioning model's, then words that a CLIP chooses, then a template."""

import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from contracts.errors import LikenessError
from curation.metadata import one_line
from networks.clip_judge import ClipJudge
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.pretrained import UNREADABLE, first_line, quiet_loading

_TOKENS = 40  # of a caption at most
_SURE = 0.6  # probability that a word needs among its alternatives to be said

MEDIA = ("photo", "pencil sketch", "charcoal drawing", "oil painting", "watercolour painting")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "grey", "white", "black")
EXPRESSIONS = ("smiling", "laughing", "sad", "surprised", "angry")
GLASSES = ("wearing glasses", "wearing sunglasses")
PLACES = (
    *("on a beach", "by the sea", "in the mountains", "in a forest", "in a field", "in a desert", "in the snow"),
    *("in a garden", "in a park", "in a city", "on a street", "at sunset", "under the night sky"),
    *("in a kitchen", "in a living room", "in an office", "in a library", "in a restaurant", "in a shop", "in a gym"),
    *("in a studio", "on a stage", "in a car", "in front of a brick wall", "in front of a plain wall"),
)


def template(noun: str, medium: str = MEDIA[0]) -> str:
    """The caption of a picture of which nothing is known but its class noun and medium."""
    return f"{_article(medium)} {medium} of {_article(noun)} {noun}"


def _article(word: str) -> str:
    return "an" if word[0].lower() in "aeiou" else "a"


class Writer(Protocol):
    """Writes the captions that are not given."""

    fingerprint: str
    """What its captions depend on besides the images and what is known of them."""
    origin: str
    """The way its captions came, for the column `caption_from`."""

    def captions(self, images: Sequence[bytes], nouns: Sequence[str], faces: Sequence[bool]) -> list[str]:
        """A caption for each image file, on one line; empty where it has nothing to say.

        Args:
            nouns: Class nouns of the subjects.
            faces: Whether the subjects have faces.
        """
        ...


class WordChooser:
    """Says of an image what a CLIP is sure of: medium, a person's expression, glasses and colour of clothes, place.

    The words of each kind compete, each in a caption of its own, by CLIP's own zero-shot probability (Radford et al.
    2021, section 3.1.2); a word is said where it has at least 0.6. Of a photo where nothing is sure the template is
    left. A caption that is the same for all photos costs a method that trains on it: it is not told which of them are
    drawings, and learns to draw some where a photo is asked for.
    """

    origin = "clip"

    def __init__(self, clip: ClipJudge) -> None:
        self._clip = clip
        self.fingerprint = f"words-2/{clip.fingerprint}"

    def captions(self, images: Sequence[bytes], nouns: Sequence[str], faces: Sequence[bool]) -> list[str]:
        """As :class:`Writer`."""
        return [self._caption(*one) for one in zip(images, nouns, faces, strict=True)]

    def _caption(self, image: bytes, noun: str, face: bool) -> str:
        pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        feature = self._clip.image_features(pixels[None])[0]
        medium = self._surest(feature, {medium: template(noun, medium) for medium in MEDIA})
        caption = template(noun, medium or MEDIA[0])
        clothes = [f"in {_article(colour)} {colour} shirt" for colour in COLOURS]
        # Of an expression and of glasses there may be none, of clothes and places there is always some.
        of_people = [("", *EXPRESSIONS), ("", *GLASSES), clothes] if face else []
        said = [
            self._surest(feature, {more: f"{caption}, {more}".strip(", ") for more in kind})
            for kind in (*of_people, PLACES)
        ]
        return ", ".join([caption, *filter(None, said)]) if medium or any(said) else ""

    def _surest(self, feature: Tensor, captions: dict[str, str]) -> str | None:
        """The key whose caption is likely enough to be right."""
        texts, _ = self._clip.text_features(list(captions.values()))
        odds = (texts @ feature * self._clip.model.logit_scale.exp()).softmax(dim=0)
        best = int(odds.argmax())
        return list(captions)[best] if odds[best] >= _SURE else None


class Captioner:
    """A captioning model in transformers' form, such as BLIP or GIT.

    Raises:
        LikenessError: the folder is missing, incomplete, or holds no model that writes a text for an image.
    """

    origin = "captioner"

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
    def captions(self, images: Sequence[bytes], nouns: Sequence[str], faces: Sequence[bool]) -> list[str]:
        """As :class:`Writer`; the model looks at the images alone."""
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

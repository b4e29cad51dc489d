"""PNG files that say where they come from."""

import io
import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from contracts.errors import LikenessError
from contracts.files import read_file, write_atomically
from contracts.strict_json import parse
from datamodules.image_io import WRITER, open_image

WRITERS = 4
"""Threads that write images. One compresses nine of 512 pixels a second at zlib's default level, so all of them keep up
with a GPU. Level 1 is three times as fast and takes a sixth more room."""


class ImageWriter:
    """Writes images in threads, while the next ones are made."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(WRITERS)
        self._begun = list[Future[None]]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for all files; after an error for those that are begun."""
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self.finish()

    def write(self, path: Path, image: NDArray[np.uint8], provenance: Mapping[str, object]) -> None:
        """:func:`write_image` in a thread. An error is raised by :meth:`finish`."""
        self._begun.append(self._pool.submit(write_image, path, image, provenance))

    def finish(self) -> None:
        """Wait until everything that was given is on the disk."""
        for writing in self._begun:
            writing.result()
        self._begun.clear()


def write_image(path: Path, image: NDArray[np.uint8], provenance: Mapping[str, object]) -> None:
    """Write an RGB image (H, W, 3), or an RGBA one (H, W, 4), with its provenance as text; equal arguments give equal
    bytes."""
    write_atomically(path, encode_image(image, provenance))


def encode_image(image: NDArray[np.uint8], provenance: Mapping[str, object]) -> bytes:
    """The bytes of such a file."""
    text = PngInfo()
    text.add_text("Software", WRITER)
    text.add_itxt("Likeness", json.dumps(provenance, ensure_ascii=False, sort_keys=True))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def read_provenance(path: Path) -> dict[str, object]:
    """What an image file says of how it was made; empty where it says nothing, or is no such file."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            found = parse(image.info.get("Likeness", "{}"))
    except (OSError, SyntaxError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def image_bytes(path: Path) -> bytes:
    """The bytes of a image of a results folder; raises ``LikenessError`` when it is missing."""
    try:
        return read_file(path)
    except OSError as error:
        raise LikenessError(f"{path} cannot be read ({error.strerror}): run `--stage generate` again") from error


def read_image(data: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """The RGB pixels (side, side, 3) of a file's bytes.

    Raises:
        LikenessError: it cannot be read, or has another size; the message holds ``name``.
    """
    image = np.asarray(open_image(data, name))
    if image.shape != (side, side, 3):
        raise LikenessError(f"{name} is {image.shape[1]} x {image.shape[0]} pixels, the protocol says {side} x {side}")
    return image

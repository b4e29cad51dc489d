"""Opening images that somebody else made: allowed formats, a pixel cap, and one clear error line."""

import io
import struct
import warnings
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from contracts.errors import LikenessError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64 * 1024 * 1024

# What Pillow's three decoders raise on damaged data.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error)


def open_image(data: bytes, name: str, side: int | None = None, mode: str = "RGB") -> Image.Image:
    """A decoded image, upright by its EXIF orientation.

    Args:
        data: The file's bytes.
        name: What to call the image in an error.
        side: With it, a JPEG may be decoded at reduced size, its shorter edge at least this many pixels (much faster).
        mode: ``RGB``, or ``RGBA`` to keep an alpha channel, which is 255 where the image has none.

    Raises:
        LikenessError: not PNG, JPEG or WebP, more than ``MAX_PIXELS`` pixels (refused before any is decoded), cut
            short or damaged. The message names the image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image, name)
        if side is not None:
            image.draft("RGB", (side, side))
        image.load()
        return ImageOps.exif_transpose(image).convert(mode)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise LikenessError(f"{name} has more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except _DAMAGE as error:
        raise LikenessError(f"{name} is no readable PNG, JPEG or WebP image ({error})") from error


def read_square(data: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """The image's central square as (side, side, 3) RGB; a image of that size is returned as it is.

    Raises:
        LikenessError: as :func:`open_image`.
    """
    return np.asarray(_square(open_image(data, name, side), side, Image.Resampling.LANCZOS))


def read_square_mask(data: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """The mask's central square as (side, side), 0 outside and 255 inside the subject.

    Raises:
        LikenessError: as :func:`open_image`.
    """
    return square_mask(np.asarray(open_image(data, name).convert("L")), side)


def square_mask(mask: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The central square of a mask (H, W) as (side, side)."""
    return np.asarray(_square(Image.fromarray(mask), side, Image.Resampling.BOX))


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise LikenessError(f"{name} has {width} x {height} pixels, more than {MAX_PIXELS:,}: make it smaller")


def _square(image: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    if image.size == (side, side):
        return image
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.resize((side, side), resampling, (left, top, left + edge, top + edge), reducing_gap=2.0)

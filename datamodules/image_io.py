"""Opening images that somebody else made: allowed formats, a pixel cap, the colours they show, one clear error line."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from contracts.errors import LikenessError
from datamodules.colour import to_srgb

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64 * 1024 * 1024
READING = "2"
"""Names how files are decoded here. It changes whenever the pixels of some file would; then no cache is reused."""
WRITER = "Likeness"
"""What the ``Software`` field of a PNG says that was written here. Its alpha is a mask beside the whole photo."""

# What Pillow's three decoders raise on damaged data.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""
_PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""What a PNG file holds that says how its pixels lie."""
_DEEP = ("I", "I;16", "I;16B", "I;16L")
_DEEP_WHITE = 65535


def open_image(data: bytes, name: str, side: int | None = None, mode: str = "RGB") -> Image.Image:
    """A decoded image as it is meant to be seen: upright by its EXIF orientation, in sRGB, over white.

    Palettes, grey of 16 bits and CMYK are brought to RGB, an embedded colour profile to sRGB. What is transparent shows
    white, except in files that were written here (``WRITER``), whose alpha hides nothing.

    Args:
        data: The file's bytes.
        name: What to call the image in an error.
        side: With it, a JPEG may be decoded at reduced size, its shorter edge at least this many pixels (much faster).
        mode: ``RGB``, or ``RGBA`` to keep the alpha beside the same colours; it is 255 where the image has none.

    Raises:
        LikenessError: not PNG, JPEG or WebP, more than ``MAX_PIXELS`` pixels (refused before any is decoded), cut
            short or damaged. The message names the image.
    """
    with _named(name):
        stored = _open(data, name)
        if side is not None:
            stored.draft("RGB", (side, side))
        stored.load()
        image = ImageOps.exif_transpose(stored)
        colours, alpha = _colours(image)
    if alpha is None:
        return colours if mode == "RGB" else colours.convert(mode)
    if image.info.get("Software") != WRITER:
        white = Image.new("RGB", colours.size, "white")
        colours = Image.composite(colours, white, alpha)
    if mode == "RGBA":
        colours.putalpha(alpha)
    return colours


def image_size(data: bytes, name: str) -> tuple[tuple[int, int], int]:
    """Width and height of the upright image, and the EXIF orientation of the file (1 where nothing is turned).

    No pixel is decoded, but for those of a PNG that may be turned.

    Raises:
        LikenessError: as :func:`open_image`, as far as the file's head shows it.
    """
    with _named(name):
        image = _open(data, name)
        orientation = _orientation(image, data)
    return (image.size[::-1] if orientation >= 5 else image.size), orientation


def alpha_mask(data: bytes, name: str) -> NDArray[np.uint8] | None:
    """The alpha channel (H, W) of the upright image, 255 where it is opaque; ``None`` where it is so throughout.

    Raises:
        LikenessError: as :func:`open_image`.
    """
    alpha = np.asarray(open_image(data, name, mode="RGBA"))[..., 3]
    return None if alpha.min() == 255 else alpha.copy()


def read_mask(data: bytes, name: str, size: tuple[int, int], orientation: int = 1) -> NDArray[np.uint8]:
    """The mask of an upright photo: (H, W), 0 outside and 255 inside the subject.

    It may be written as 0 and 255, as 0 and 1, as 0 and any other value, as an alpha channel, by a palette, as 16 bits
    or soft, and then from half of the full value on is inside. A mask of the photo's stored bitmap is turned with it.

    Args:
        data: The file's bytes.
        name: What to call the mask in an error.
        size: Width and height of the upright photo.
        orientation: The EXIF orientation of the photo's file, see :func:`image_size`.

    Raises:
        LikenessError: the file cannot be read, nothing in it is inside, its values are no mask, it has another size
            than the photo, or it cannot be told which way up it is. The message says ``name``.
    """
    with _named(name):
        stored = _open(data, name)
        turned = _orientation(stored, data) != 1
        stored.load()
        image = ImageOps.exif_transpose(stored)
    if orientation != 1 and not turned:
        image = _turned_like(image, name, size, orientation)
    if image.size != size:
        raise LikenessError(
            f"{name} has {image.width} x {image.height} pixels, the image {size[0]} x {size[1]}: a mask has the size "
            "of its image as it is seen"
        )
    return np.where(_inside(image, name), np.uint8(255), np.uint8(0))


def read_square(data: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """The image's central square as (side, side, 3) RGB; an image of that size is returned as it is.

    Raises:
        LikenessError: as :func:`open_image`.
    """
    return np.asarray(_square(open_image(data, name, side), side, Image.Resampling.LANCZOS))


def square_corner(height: int, width: int, side: int) -> tuple[int, int]:
    """Top and left of :func:`read_square`'s square, in pixels of the whole image after its shorter edge is ``side``."""
    (left, top), edge = _square_at((width, height))
    return round(top * side / edge), round(left * side / edge)


def square_mask(mask: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The central square of a mask (H, W) as (side, side)."""
    return np.asarray(_square(Image.fromarray(mask), side, Image.Resampling.BOX))


def in_square(box: Sequence[float], size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """A box x0, y0, x1, y1 of an image of this width and height, in pixels of its central square (side, side)."""
    (left, top), edge = _square_at(size)
    return ((np.array(box, np.float64) - [left, top, left, top]) * (side / edge)).astype(np.float32)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What Pillow raises and warns of, as one line that says ``name``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # damaged EXIF data: nothing is turned then
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise LikenessError(f"{name} has more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except UnidentifiedImageError as error:  # whose message is an address in memory
        raise LikenessError(f"{name} is no readable PNG, JPEG or WebP image") from error
    except _DAMAGE as error:
        raise LikenessError(f"{name} is no readable PNG, JPEG or WebP image ({error})") from error


def _open(data: bytes, name: str) -> Image.Image:
    """The image with its head read and no pixel decoded."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise LikenessError(f"{name} has {width} x {height} pixels, more than {MAX_PIXELS:,}: make it smaller")
    return image


def _orientation(image: Image.Image, data: bytes) -> int:
    """How the pixels of an open file lie, 1 where they lie upright."""
    if image.format == "PNG" and not any(mark in data for mark in _PNG_EXIF):
        return 1  # Pillow would decode the image to look behind it
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _colours(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours of an image as sRGB, and its alpha (mode L); ``None`` where it is opaque throughout."""
    profile = image.info.get("icc_profile")
    if image.mode in _DEEP:
        image = _eight_bits(image)
    elif image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    alpha = image.getchannel("A") if "A" in image.mode else None
    if alpha is not None:
        image = image.convert(image.mode.removesuffix("A"))
    opaque = alpha is None or alpha.getextrema()[0] == 255
    return to_srgb(image, profile), None if opaque else alpha


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8, with the level that the file calls transparent as alpha."""
    levels = np.asarray(image)
    eight = np.rint(np.linspace(0, 255, _DEEP_WHITE + 1)).astype(np.uint8)
    grey = Image.fromarray(eight[levels.clip(0, _DEEP_WHITE)])
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _turned_like(mask: Image.Image, name: str, size: tuple[int, int], orientation: int) -> Image.Image:
    """The mask of a photo that is turned by its EXIF orientation, upright. The mask's file does not say how it lies."""
    turned = mask.transpose(_TURNS[orientation])
    if turned.size != mask.size:
        return mask if mask.size == size else turned
    if mask.size == size and not np.array_equal(np.asarray(mask), np.asarray(turned)):
        raise LikenessError(
            f"{name} may lie like the stored image or like the one that is seen, which its EXIF orientation "
            f"{orientation} turns: store the image upright, or the mask with the same orientation"
        )
    return mask


def _inside(image: Image.Image, name: str) -> NDArray[np.bool_]:
    """Which pixels (H, W) of a mask are inside."""
    levels, white = _levels(image, name)
    low, high = int(levels.min()), int(levels.max())
    if high == 0:
        raise LikenessError(f"{name} is empty, 0 throughout: a mask is 255 on the subject, or null where it is unknown")
    if not ((levels != 0) & (levels != high)).any():
        return levels > 0
    inside = levels > white // 2
    bright = white * 3 // 4
    between = (levels > white // 4) & (levels < bright)
    if high < bright or between.mean() > 0.5 or (inside.all() and low < bright):
        raise LikenessError(
            f"{name} has levels from {low} to {high} of {white}, which do not say what is inside: write 0 outside and "
            f"{white} inside"
        )
    return inside


def _levels(image: Image.Image, name: str) -> tuple[NDArray, int]:
    """The levels (H, W) of a mask and what a full one is: of its alpha where that varies, else the lightest channel."""
    if image.mode in _DEEP:
        return np.asarray(image), _DEEP_WHITE
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if not alpha.any():
            raise LikenessError(f"{name} is transparent throughout: its alpha must be opaque on the subject")
        if alpha.min() < alpha.max():
            return alpha, 255
    return np.asarray(image.convert("RGB")).max(axis=-1), 255


def _square(image: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    if image.size == (side, side):
        return image
    (left, top), edge = _square_at(image.size)
    return image.resize((side, side), resampling, (left, top, left + edge, top + edge), reducing_gap=2.0)


def _square_at(size: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Left, top and edge of the central square of an image of this width and height."""
    edge = min(size)
    return ((size[0] - edge) // 2, (size[1] - edge) // 2), edge

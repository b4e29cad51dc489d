"""The pixels of a photo, upright and in sRGB, with what else its file says."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contracts.errors import LikenessError
from curation.metadata import one_line
from datamodules.image_io import MAX_PIXELS, image_size, open_image

_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"heif")


@dataclass(frozen=True)
class Picture:
    """A photo's pixels.

    ``pixels`` (H, W, 3) RGB may be smaller than the photo, whose width and height are ``size``; ``alpha`` (H, W) is
    ``None`` where it is opaque throughout.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    alpha: NDArray[np.uint8] | None
    orientation: int
    """The EXIF orientation of the file; 1 where nothing was turned."""


def read_picture(data: bytes, name: str, side: int | None = None) -> Picture:
    """Decode a photo.

    Args:
        data: The file's bytes; HEIC is read where pillow-heif is installed.
        name: What to call the photo in an error.
        side: With it, a JPEG may be decoded at reduced size, its shorter edge at least this many pixels.

    Raises:
        LikenessError: as :func:`datamodules.image_io.open_image`, and for HEIC without pillow-heif.
    """
    data = without_heic(data, name)
    size, orientation = image_size(data, name)
    image = open_image(data, name, side, "RGBA")
    pixels = np.asarray(image)
    alpha = pixels[..., 3]
    if not alpha.any():
        raise LikenessError(f"{name} is transparent throughout")
    return Picture(
        np.ascontiguousarray(pixels[..., :3]), size, None if alpha.min() == 255 else alpha.copy(), orientation
    )


def without_heic(data: bytes, name: str) -> bytes:
    """The bytes of a HEIC photo as PNG, those of any other file as they are."""
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIC:
        return data
    try:
        import pillow_heif
    except ImportError:
        raise LikenessError(f"{name} is HEIC: install pillow-heif") from None
    try:
        found = pillow_heif.open_heif(io.BytesIO(data))
        if found.size[0] * found.size[1] > MAX_PIXELS:
            raise LikenessError(
                f"{name} has {found.size[0]} x {found.size[1]} pixels, more than {MAX_PIXELS:,}: make it smaller"
            )
        image: Image.Image = found.to_pillow()
    except (ValueError, RuntimeError, OSError, EOFError) as error:
        raise LikenessError(f"{name} is no readable HEIC image ({one_line(error)})") from error
    buffer = io.BytesIO()
    image.save(buffer, "PNG", icc_profile=image.info.get("icc_profile"), compress_level=1)
    return buffer.getvalue()

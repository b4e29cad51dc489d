"""Pictures made by others: upright, square, or refused in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from contracts.errors import LikenessError
from datamodules.image_io import MAX_PIXELS, open_image, read_square, read_square_mask


def _file(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))


def _png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def test_pixels_of_the_right_size_are_kept() -> None:
    image = _gradient(32, 32)
    assert np.array_equal(read_square(_file(image, "PNG"), "x", 32), image)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(200, 100), (90, 300), (20, 30)])
def test_the_central_square_is_taken(form: str, size: tuple[int, int]) -> None:
    square = read_square(_file(_gradient(*size), form), "x", 40)
    assert square.shape == (40, 40, 3)
    assert square.dtype == np.uint8
    middle = square[18:22, 18:22].reshape(-1, 3).mean(axis=0)
    assert np.abs(middle - 127.5).max() < 8


def test_reduced_decoding_of_a_jpeg_shows_the_same_picture() -> None:
    data = _file(_gradient(1200, 900), "JPEG", quality=95)
    naive = open_image(data, "x").resize((64, 64), Image.Resampling.LANCZOS, (150, 0, 1050, 900))
    assert np.abs(read_square(data, "x", 64).astype(int) - np.asarray(naive)).mean() < 2


def test_a_picture_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    data = _file(_gradient(60, 40), "JPEG", exif=exif)
    assert open_image(data, "x").size == (40, 60)


def test_grey_and_transparent_pictures_become_rgb() -> None:
    for mode in ("L", "RGBA", "P"):
        assert open_image(_file(_gradient(8, 8).convert(mode), "PNG"), "x").mode == "RGB"


def test_masks_are_averaged() -> None:
    half = np.zeros((64, 64), np.uint8)
    half[:, 32:] = 255
    mask = read_square_mask(_file(Image.fromarray(half), "PNG"), "x", 16)
    assert mask.shape == (16, 16)
    assert (mask[:, :8] == 0).all()
    assert (mask[:, 8:] == 255).all()


@pytest.mark.parametrize("side", [20_000, 12_000, 9_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    assert side * side > MAX_PIXELS
    with pytest.raises(LikenessError, match=r"holiday.png .*pixels.* make it smaller") as caught:
        read_square(_png_header(side, side), "holiday.png", 64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_a_file_cut_short_is_refused(form: str, share: float) -> None:
    data = _file(_gradient(200, 200), form)
    with pytest.raises(LikenessError, match="holiday is no readable PNG, JPEG or WebP") as caught:
        open_image(data[: int(len(data) * share)], "holiday")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"this is text", _file(_gradient(8, 8), "GIF"), _file(_gradient(8, 8), "TIFF")])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(LikenessError, match="holiday is no readable PNG, JPEG or WebP"):
        open_image(data, "holiday")

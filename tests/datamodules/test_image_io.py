"""Pictures made by others: upright, square, or refused in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from contracts.errors import LikenessError
from datamodules.image_io import (
    MAX_PIXELS,
    WRITER,
    alpha_mask,
    image_size,
    open_image,
    read_mask,
    read_square,
    square_mask,
)
from tests.helpers.profiles import SRGB, grey_profile, ink_profile, rgb_profile


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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_what_a_picture_shows_is_read_whatever_its_mode(mode: str) -> None:
    image = _gradient(8, 8).convert(mode)
    form = {"format": "JPEG", "quality": 100} if mode == "CMYK" else {"format": "PNG"}
    read = open_image(_file(image, str(form.pop("format")), **form), "x")
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read, int) - np.asarray(image.convert("RGB"), int)).max() <= (8 if mode == "CMYK" else 0)


def test_grey_of_16_bits_has_the_levels_of_8() -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    read = np.asarray(open_image(_file(Image.fromarray(levels), "PNG"), "x"))
    assert np.array_equal(read[..., 0], np.arange(256).reshape(16, 16)) and np.ptp(read, axis=-1).max() == 0


def test_transparency_shows_white_and_is_a_mask() -> None:
    """A cut-out whose hidden colour is magenta, as RGBA, and by a palette's or a PNG's transparent colour."""
    colours = np.full((8, 8, 3), (255, 0, 255), np.uint8)
    colours[:, 4:] = (10, 200, 30)
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:, 4:] = 255
    palette = Image.fromarray(colours).quantize(4)
    hidden = palette.getpixel((0, 0))
    for data in (
        _file(Image.fromarray(np.dstack([colours, alpha])), "PNG"),
        _file(Image.fromarray(np.dstack([colours, alpha])), "WEBP", lossless=True, exact=True),
        _file(palette, "PNG", transparency=hidden),
        _file(Image.fromarray(colours), "PNG", transparency=(255, 0, 255)),
    ):
        read = np.asarray(open_image(data, "x"))
        assert (read[:, :4] == 255).all() and (read[:, 4:] == (10, 200, 30)).all()
        both = np.asarray(open_image(data, "x", mode="RGBA"))
        assert np.array_equal(both[..., :3], read) and np.array_equal(both[..., 3], alpha)
        found = alpha_mask(data, "x")
        assert found is not None and np.array_equal(found, alpha)
    assert alpha_mask(_file(_gradient(8, 8).convert("RGBA"), "PNG"), "x") is None


def test_transparent_grey_of_16_bits_shows_white() -> None:
    levels = np.full((4, 4), 25700, np.uint16)
    levels[:2] = 257
    read = np.asarray(open_image(_file(Image.fromarray(levels), "PNG", transparency=257), "x"))
    assert (read[:2] == 255).all() and (read[2:] == 100).all()


def test_half_transparent_is_half_white() -> None:
    data = _file(Image.new("RGBA", (4, 4), (0, 100, 200, 128)), "PNG")
    assert np.abs(np.asarray(open_image(data, "x"), int) - (127, 177, 227)).max() <= 1


def test_the_alpha_of_a_file_that_was_written_here_hides_nothing() -> None:
    text = PngInfo()
    text.add_text("Software", WRITER)
    data = _file(Image.new("RGBA", (4, 4), (9, 8, 7, 0)), "PNG", pnginfo=text)
    assert (np.asarray(open_image(data, "x")) == (9, 8, 7)).all()
    assert (np.asarray(open_image(data, "x", mode="RGBA")) == (9, 8, 7, 0)).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_colours_are_brought_to_srgb(form: str) -> None:
    swapped = rgb_profile([SRGB[1], SRGB[0], SRGB[2]])
    data = _file(Image.new("RGB", (8, 8), (200, 50, 50)), form, icc_profile=swapped)
    red, green, _ = np.asarray(open_image(data, "x"), int)[4, 4]
    assert abs(green - 200) < 8 and red < 60


def test_profiles_of_grey_of_palettes_of_ink_and_beside_alpha() -> None:
    linear = grey_profile(1.0)
    grey = np.asarray(open_image(_file(Image.new("L", (4, 4), 100), "PNG", icc_profile=linear), "x"))
    assert abs(int(grey[0, 0, 0]) - 168) <= 2 and np.ptp(grey) == 0
    swapped = rgb_profile([SRGB[1], SRGB[0], SRGB[2]])
    for mode in ("P", "RGBA"):
        image = Image.new("RGB", (4, 4), (200, 50, 50)).convert(mode)
        red, green, _ = np.asarray(open_image(_file(image, "PNG", icc_profile=swapped), "x"), int)[0, 0]
        assert green > 190 and red < 60, mode
    ink = _file(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100, icc_profile=ink_profile(128))
    printed = np.asarray(open_image(ink, "x"), int)[4, 4]
    assert np.ptp(printed) <= 2 and 90 < printed[0] < 150


def test_a_profile_that_is_broken_foreign_or_srgb_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = _gradient(16, 16)
    for profile in (b"no profile", rgb_profile()[:300], grey_profile(1.0), ink_profile(9), srgb):
        assert np.array_equal(open_image(_file(image, "PNG", icc_profile=profile), "x"), image)


def _mask() -> np.ndarray:
    inside = np.zeros((6, 8), bool)
    inside[1:4, 2:5] = True
    return inside


def _masks() -> dict[str, Image.Image]:
    inside = _mask()
    level = inside.astype(np.uint8)
    palette = Image.fromarray(level).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    soft = np.where(inside, 250, 6).astype(np.uint8)
    soft[0, 0], soft[2, 3] = 120, 140
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return {
        "255": Image.fromarray(level * 255),
        "1": Image.fromarray(level),
        "one bit": Image.fromarray(inside),
        "7": Image.fromarray(level * 7),
        "16 bits": Image.fromarray(level.astype(np.uint16) * 65535),
        "1 of 16 bits": Image.fromarray(level.astype(np.uint16)),
        "palette": palette,
        "colour": Image.fromarray(np.dstack([level * 0, level * 0, level * 90])),
        "soft": Image.fromarray(soft),
        "grey and opaque": Image.fromarray(np.dstack([level * 255, level * 0 + 255])),
        "alpha": Image.fromarray(np.dstack([level * 0 + 255] * 3 + [level * 255])),
        "alpha of a photo": Image.fromarray(np.dstack([colours, level * 255])),
        "alpha of grey": Image.fromarray(np.dstack([level * 0, level * 255])),
    }


@pytest.mark.parametrize("kind", _masks())
def test_masks_of_all_kinds_are_read(kind: str) -> None:
    mask = read_mask(_file(_masks()[kind], "PNG"), "m", (8, 6))
    assert mask.dtype == np.uint8 and np.array_equal(mask, _mask() * 255)


def test_a_mask_that_is_a_jpeg_is_read() -> None:
    inside = np.kron(_mask(), np.ones((16, 16))) > 0
    mask = read_mask(_file(Image.fromarray(inside.astype(np.uint8) * 255), "JPEG", quality=60), "m", (128, 96))
    assert ((mask > 0) != inside).mean() < 0.02


def test_a_mask_of_one_level_is_the_whole_photo_or_refused() -> None:
    for level in (1, 255):
        assert (read_mask(_file(Image.new("L", (8, 6), level), "PNG"), "m", (8, 6)) == 255).all()
    with pytest.raises(LikenessError, match=r"^m is empty, 0 throughout"):
        read_mask(_file(Image.new("L", (8, 6), 0), "PNG"), "m", (8, 6))
    with pytest.raises(LikenessError, match=r"^m is transparent throughout"):
        read_mask(_file(Image.new("RGBA", (8, 6), (255, 255, 255, 0)), "PNG"), "m", (8, 6))


@pytest.mark.parametrize(
    "levels",
    [
        [[0, 1, 2, 3]],  # labels of several things
        [[150, 150, 230, 150]],  # both bright
        [[3, 3, 9, 9]],  # both dark
        [[0, 90, 128, 160, 100, 255]],  # a photo
    ],
)
def test_levels_that_are_no_mask_are_refused(levels: list[list[int]]) -> None:
    image = Image.fromarray(np.array(levels, np.uint8))
    with pytest.raises(LikenessError, match=r"^m has levels from \d+ to \d+ of 255") as caught:
        read_mask(_file(image, "PNG"), "m", image.size)
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(LikenessError, match=r"^m has 8 x 6 pixels, the image 16 x 12"):
        read_mask(_file(_masks()["255"], "PNG"), "m", (16, 12))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_like_their_photo(orientation: int) -> None:
    """The upright mask, and that of the stored bitmap with and without its own orientation, are one mask or refused."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(_mask().astype(np.uint8) * 255)
    photo = _file(_gradient(8, 6), "JPEG", exif=exif)
    size, found = image_size(photo, "photo")
    assert found == orientation and size == open_image(photo, "photo").size
    expected = np.asarray(open_image(_file(stored, "PNG", exif=exif), "m"))[..., 0]
    assert np.array_equal(read_mask(_file(stored, "PNG", exif=exif), "m", size, orientation), expected)
    for lying in (stored, Image.fromarray(expected)):
        if orientation in (2, 3, 4):
            with pytest.raises(LikenessError, match=r"^m may lie like the stored image or like the one that is seen"):
                read_mask(_file(lying, "PNG"), "m", size, orientation)
        else:
            assert np.array_equal(read_mask(_file(lying, "PNG"), "m", size, orientation), expected)


def test_a_mask_that_is_the_same_either_way_is_read() -> None:
    assert (read_mask(_file(Image.new("L", (8, 8), 255), "PNG"), "m", (8, 8), 6) == 255).all()


def test_damaged_exif_turns_nothing_and_says_nothing(recwarn: pytest.WarningsRecorder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(_file(_gradient(60, 40), "JPEG", exif=exif))
    data[data.index(b"Exif\0\0") + 10] = 0xFF  # where its first entry lies
    assert open_image(bytes(data), "x").size == image_size(bytes(data), "x")[0] == (60, 40)
    assert not recwarn.list


def test_squares_of_masks_are_averaged() -> None:
    half = np.zeros((64, 64), np.uint8)
    half[:, 32:] = 255
    mask = square_mask(half, 16)
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

"""One sheet of generated images: the reference photo first, a row for each prompt, a column for each sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from datamodules.image_io import open_image

MAX_COLUMNS = 8
MAX_ROWS = 80
_TILE = 160  # pixels
_GAP = 6
_LINE = 18  # height of a line of text


@dataclass(frozen=True)
class Row:
    """A prompt, and the files of its samples."""

    prompt: str
    images: Sequence[Path]


@dataclass(frozen=True)
class Block:
    """What one run generated of one subject."""

    title: str
    reference_name: str
    """What errors call the reference photo."""
    reference: bytes
    """Its file."""
    rows: Sequence[Row]


def make_sheet(blocks: Sequence[Block]) -> Image.Image:
    """The blocks one below the other. A reference stands beside the first row of its block.

    At most ``MAX_ROWS`` rows and ``MAX_COLUMNS`` samples are shown; a last line says how many images are not.

    Raises:
        LikenessError: an image cannot be read.
    """
    rows = [(block, number, row) for block in blocks for number, row in enumerate(block.rows)]
    shown = rows[:MAX_ROWS]
    columns = min(MAX_COLUMNS, max(len(row.images) for _, _, row in rows))
    lines = sum(2 if number == 0 else 1 for _, number, _ in shown)
    width = _GAP + (1 + columns) * (_TILE + _GAP)
    sheet = Image.new("RGB", (width, lines * _LINE + len(shown) * (_TILE + _GAP) + _LINE), "white")
    pen, y = ImageDraw.Draw(sheet), 0
    for block, number, row in shown:
        if number == 0:
            _write(pen, block.title, y, width, 14)
            y += _LINE
        _write(pen, row.prompt, y, width, 12)
        y += _LINE
        if number == 0:
            sheet.paste(_tile(block.reference, block.reference_name), (_GAP, y))
        for column, file in enumerate(row.images[:columns], start=1):
            sheet.paste(_tile(file.read_bytes(), str(file)), (_GAP + column * (_TILE + _GAP), y))
        y += _TILE + _GAP
    unseen = sum(len(row.images) for _, _, row in rows) - sum(len(row.images[:columns]) for _, _, row in shown)
    if unseen:
        _write(pen, f"{unseen} further images are not shown", y, width, 12)
    return sheet


def _tile(data: bytes, name: str) -> Image.Image:
    return ImageOps.pad(open_image(data, name, _TILE), (_TILE, _TILE), Image.Resampling.LANCZOS, color="white")


def _write(pen: ImageDraw.ImageDraw, text: str, y: int, width: int, size: int) -> None:
    """One line of text, cut where the sheet ends."""
    font = ImageFont.load_default(size)
    while text and pen.textlength(text, font) > width - 2 * _GAP:
        text = text.removesuffix("...")[:-1] + "..."
    pen.text((_GAP, y + 1), text, fill="black", font=font)

"""One sheet of generated images: the reference photo first, a row for each prompt, a column for each sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

MAX_COLUMNS = 8
MAX_ROWS = 80
_TILE = 160  # pixels
_GAP = 6
_LINE = 18  # height of a line of text


@dataclass(frozen=True)
class Row:
    """A prompt, and its samples."""

    prompt: str
    images: Sequence[Image.Image]


@dataclass(frozen=True)
class Block:
    """What one run generated of one subject."""

    title: str
    reference: Image.Image
    rows: Sequence[Row]


def make_sheet(blocks: Sequence[Block]) -> Image.Image:
    """The blocks one below the other. A reference stands beside the first row of its block.

    At most ``MAX_ROWS`` rows and ``MAX_COLUMNS`` samples are shown; a last line says how many are not.
    """
    columns = min(MAX_COLUMNS, max(len(row.images) for block in blocks for row in block.rows))
    rows = list(_rows(blocks))
    shown = rows[:MAX_ROWS]
    width = _GAP + (1 + columns) * (_TILE + _GAP)
    lines = sum(1 + (title is not None) for title, *_ in shown)
    sheet = Image.new("RGB", (width, lines * _LINE + len(shown) * (_TILE + _GAP) + _LINE), "white")
    pen, y = ImageDraw.Draw(sheet), 0
    for title, reference, row in shown:
        if title is not None:
            _write(pen, title, y, width, 14)
            y += _LINE
        _write(pen, row.prompt, y, width, 12)
        y += _LINE
        tiles = [reference, *row.images[:columns]]
        for column, image in enumerate(tiles):
            if image is not None:
                sheet.paste(ImageOps.pad(image, (_TILE, _TILE), color="white"), (_GAP + column * (_TILE + _GAP), y))
        y += _TILE + _GAP
    samples = sum(max(0, len(row.images) - columns) for *_, row in shown)
    unseen = samples + sum(len(row.images) for *_, row in rows[MAX_ROWS:])
    _write(pen, f"{unseen} further images are not shown" if unseen else "", y, width, 12)
    return sheet


def _rows(blocks: Sequence[Block]) -> Iterator[tuple[str | None, Image.Image | None, Row]]:
    """Every row, with title and reference where a block begins."""
    for block in blocks:
        for number, row in enumerate(block.rows):
            yield (block.title, block.reference, row) if number == 0 else (None, None, row)


def _write(pen: ImageDraw.ImageDraw, text: str, y: int, width: int, size: int) -> None:
    """One line of text, cut where the sheet ends."""
    font = ImageFont.load_default(size)
    while text and pen.textlength(text, font) > width - 2 * _GAP:
        text = text.removesuffix("...")[:-1] + "..."
    pen.text((_GAP, y + 1), text, fill="black", font=font)

"""The image grid: for a few subjects, every entry's answer to every prompt from the same noise, failures marked."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from contracts.protocol import Protocol
from contracts.records import Record
from leaderboard.results.folder import Results
from leaderboard.results.image_files import image_bytes, read_image

SUBJECTS = 4
_TILE = 96  # pixels
_GAP = 4
_LABELS = 112  # width of the labels on the left
_HEAD = 18
_MISS = (214, 30, 30)


def make_grid(results: Results, labels: Sequence[str], records: Mapping[str, Mapping[str, Record]]) -> Image.Image:
    """A block of rows per subject, a row per entry; first the reference photo, then the first sample of each prompt.

    ``records`` are by label and request. A request without an image has no tile. A red frame marks an image in which no
    face was found, of a subject that has one.
    """
    protocol = results.protocol()
    subjects = list(protocol.subjects)[:SUBJECTS]
    step = _TILE + _GAP
    block = len(labels) * step + _HEAD
    size = (_LABELS + (len(protocol.prompts) + 1) * step, _HEAD + len(subjects) * block)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, title in enumerate(["reference", *(prompt.id for prompt in protocol.prompts)]):
        pen.text((_LABELS + column * step, 2), title, fill="black", font=font)
    for s, subject in enumerate(subjects):
        top = _HEAD + s * block
        pen.text((2, top), subject, fill="black", font=font)
        reference = _tile(image_bytes(results.reference(subject)), subject, protocol)
        sheet.paste(reference, (_LABELS, top + _HEAD))
        for row, label in enumerate(labels):
            y = top + _HEAD + row * step
            pen.text((2, y + _TILE // 2 - 6), label, fill="black", font=font)
            _draw_row(sheet, pen, results, protocol, label, records[label], subject, y)
    return sheet


def _draw_row(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    results: Results,
    protocol: Protocol,
    label: str,
    records: Mapping[str, Record],
    subject: str,
    y: int,
) -> None:
    folder = results.entry(label)
    columns = {prompt.id: column for column, prompt in enumerate(protocol.prompts, start=1)}
    firsts = [r for r in protocol.requests if r.subject == subject and r.sample == 0]
    for request in firsts:  # with a limit, not every prompt has one
        if records[request.id].missing:
            continue
        x = _LABELS + columns[request.prompt_id] * (_TILE + _GAP)
        path = folder.image(request.id)
        sheet.paste(_tile(image_bytes(path), str(path), protocol), (x, y))
        if records[request.id].face_missed:
            pen.rectangle((x, y, x + _TILE - 1, y + _TILE - 1), outline=_MISS, width=3)


def _tile(data: bytes, name: str, protocol: Protocol) -> Image.Image:
    image = Image.fromarray(read_image(data, name, protocol.resolution))
    return image.resize((_TILE, _TILE), Image.Resampling.LANCZOS)

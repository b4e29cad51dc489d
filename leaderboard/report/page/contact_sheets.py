"""The page's contact sheets: subjects x prompts x entries, every entry's answer to the same noise side by side.

A page stays light: it holds thumbnails, and of a large evaluation the first subjects and samples only. All images
lie in the results folder.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from contracts.prompts import plain_prompt
from contracts.protocol import Prompt, Protocol
from contracts.records import Record
from datamodules.image_io import open_image
from leaderboard.results.folder import Results
from leaderboard.results.image_files import image_bytes
from leaderboard.results.packed import kept_picture

MAX_IMAGES = 600  # thumbnails of a page, about a megabyte at 64 pixels and five at the largest side
SIDE = 160  # pixels of a thumbnail at most
_QUALITY = 82


@dataclass(frozen=True)
class Shot:
    """One image: its thumbnail as a data URI, whether its subject's face was missed, its scores in words."""

    label: str
    sample: int
    thumbnail: str
    missed: bool
    scores: str


@dataclass(frozen=True)
class Cell:
    """One prompt of a subject: ``shots`` by entry, each a list by sample."""

    prompt: Prompt
    text: str
    shots: Mapping[str, Sequence[Shot]]

    @property
    def missed(self) -> bool:
        """Whether some entry's image lacks the subject's face."""
        return any(shot.missed for shots in self.shots.values() for shot in shots)


@dataclass(frozen=True)
class Sheet:
    """One subject: the photo that methods saw, and a cell per prompt."""

    subject: str
    reference: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Choice:
    """What of the protocol the page shows."""

    subjects: Sequence[str]
    prompts: Sequence[Prompt]
    samples: int

    def missing(self, protocol: Protocol) -> str:
        """What is not shown, in words; empty if everything is."""
        parts = [
            f"{shown} of {there} {what}"
            for what, shown, there in (
                ("subjects", len(self.subjects), len(protocol.subjects)),
                ("prompts", len(self.prompts), len(protocol.prompts)),
                ("samples", self.samples, protocol.samples),
            )
            if shown < there
        ]
        return ", ".join(parts)


def choose(protocol: Protocol, entries: int, limit: int = MAX_IMAGES) -> Choice:
    """As many whole sheets as ``limit`` allows: first fewer samples, then fewer subjects, last fewer prompts."""
    prompts, subjects, samples = len(protocol.prompts), len(protocol.subjects), protocol.samples
    few = min(subjects, 4)
    samples = max(1, min(samples, limit // (entries * prompts * few)))
    subjects = max(1, min(subjects, limit // (entries * prompts * samples)))
    prompts = max(1, min(prompts, limit // (entries * samples * subjects)))
    return Choice(tuple(protocol.subjects)[:subjects], protocol.prompts[:prompts], samples)


def make_sheets(
    results: Results, labels: Sequence[str], records: Mapping[str, Mapping[str, Record]], choice: Choice
) -> list[Sheet]:
    """Read the images that ``choice`` names; a request that the protocol leaves out, or without an image, has no shot.

    ``records`` are by label and request.
    """
    protocol = results.protocol()
    planned: dict[tuple[str, str], list] = {}
    for request in protocol.requests:
        if request.sample < choice.samples:
            planned.setdefault((request.subject, request.prompt_id), []).append(request)
    sheets = []
    for subject in choice.subjects:
        cells = []
        for prompt in choice.prompts:
            requests = planned.get((subject, prompt.id), [])
            shots = {
                label: [
                    _shot(results, label, records[label][r.id]) for r in requests if not records[label][r.id].missing
                ]
                for label in labels
            }
            text = requests[0].prompt if requests else prompt.text  # which says who the second of two subjects is
            cells.append(Cell(prompt, plain_prompt(text, subject, protocol.subjects), shots))
        path = results.reference(subject)
        sheets.append(Sheet(subject, _shown(results, path), cells))
    return sheets


def _shot(results: Results, label: str, record: Record) -> Shot:
    scores = "\n".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in record.scores.items() if value is not None
    )
    shown = _shown(results, results.entry(label).image(record.request_id))
    return Shot(label, record.sample, shown, record.face_missed, scores)


def _shown(results: Results, image: Path) -> str:
    """The thumbnail of an image as a data URI; of packed results the one that was kept."""
    data = kept_picture(image) if results.packed else thumbnail(image_bytes(image), str(image))
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def thumbnail(data: bytes, name: str) -> bytes:
    """An image's bytes as a WebP file of at most ``SIDE`` pixels; a damaged image is a ``LikenessError``."""
    image = open_image(data, name)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()

"""The report of a curation: what was kept, what was dropped and why, and what the dataset is good for."""

import base64
import hashlib
import io
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from contracts.errors import LikenessError
from contracts.files import write_atomically
from curation.agreement import Agreement
from curation.choice import Choice, Dropped
from curation.columns import Facing
from curation.feeds import Feed, feeds_of
from curation.pictures import read_picture
from curation.portraits import Portrait
from curation.settings import CurationSettings
from datamodules.schema import SPLITS

SHOWN = 400  # crops of the contact sheet
SHOWN_DROPPED = 200
_SIDE = 96  # pixels of a thumbnail
_HERE = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Person:
    """How the photos of one subject agree; numbers are mean cosines, NaN where they are unknown."""

    subject: str
    split: str
    kept: int
    dropped: int
    within: float
    strangers: float
    limit: float
    by: str
    nearest: str
    between: float

    @property
    def doubtful(self) -> bool:
        """Whether the nearest other subject agrees as much as the subject's own photos must."""
        return self.between > self.limit


@dataclass(frozen=True)
class Report:
    """What the page and the console say."""

    settings: CurationSettings
    kept: int
    dropped: Sequence[Dropped]
    rows: Sequence[Mapping[str, Any]]
    people: Sequence[Person]
    feeds: Sequence[Feed]
    backgrounds: str
    notes: Sequence[str]
    changed: bool

    @classmethod
    def of(
        cls,
        settings: CurationSettings,
        choice: Choice,
        dropped: Sequence[Dropped],
        rows: Sequence[Mapping[str, Any]],
        facing: Sequence[Facing],
        backgrounds: str,
        changed: bool,
    ) -> "Report":
        """From what was decided and made."""
        notes = [f"{one.source.name}: {face.note}" for one, face in zip(choice.kept, facing, strict=True) if face.note]
        small = sum(one.look.square(one.face).side < settings.resolution for one in choice.kept)
        if small:
            notes.insert(0, f"{small} of {len(rows)} crops have fewer than {settings.resolution} pixels a side")
        people = _people(choice, dropped, rows)
        return cls(settings, len(rows), dropped, rows, people, feeds_of(rows), backgrounds, notes, changed)

    def reasons(self) -> list[tuple[str, int]]:
        """Reasons for dropping and how often, the most frequent first."""
        return sorted(Counter(one.reason for one in self.dropped).items(), key=lambda item: (-item[1], item[0]))

    def counts(self, column: str) -> list[tuple[str, int, int]]:
        """Each value of a column, in how many photos it stands and of how many subjects, the most frequent first."""
        photos, subjects = Counter[str](), dict[str, set[str]]()
        for row in self.rows:
            value = "unknown" if row[column] is None else str(row[column])
            photos[value] += 1
            subjects.setdefault(value, set()).add(row["subject_id"])
        return sorted(((v, n, len(subjects[v])) for v, n in photos.items()), key=lambda item: (-item[1], item[0]))

    def lines(self) -> list[str]:
        """What the console says."""
        subjects = {split: {row["subject_id"] for row in self.rows if row["split"] == split} for split in SPLITS}
        splits = ", ".join(f"{len(names)} {split}" for split, names in subjects.items() if names)
        lines = [f"kept {self.kept} photos of {sum(map(len, subjects.values()))} subjects ({splits or 'none'})"]
        if self.dropped:
            lines.append("dropped " + ", ".join(f"{count} {reason}" for reason, count in self.reasons()))
        lines += [f"{'can' if feed.possible else 'cannot'} feed {feed.use}: {feed.why}" for feed in self.feeds]
        doubtful = [f"{p.subject} and {p.nearest}" for p in self.people if p.doubtful]
        if doubtful:
            lines.append(f"note: may be one person: {', '.join(doubtful[:5])}{' ...' if len(doubtful) > 5 else ''}")
        return lines


def write_report(path: Path, report: Report, portrait: Callable[[int], Portrait]) -> None:
    """Write the page, one file with all that it shows."""
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        report=report,
        sheet=_sheet(report, portrait),
        dropped=[(one, _thumbnail_of_dropped(one)) for one in _spread(report.dropped, SHOWN_DROPPED)],
        style=Markup(style),
        style_hash=f"sha256-{digest}",
        number=lambda value: "n/a" if value is None or math.isnan(value) else f"{value:.2f}",
    )
    write_atomically(path, page.encode())


def _people(choice: Choice, dropped: Sequence[Dropped], rows: Sequence[Mapping[str, Any]]) -> list[Person]:
    lost = Counter(one.subject for one in dropped)
    kept = Counter(row["subject_id"] for row in rows)
    splits = {row["subject_id"]: row["split"] for row in rows}
    near = choice.nearest()
    nan = float("nan")
    people = []
    for subject in sorted({*kept, *(s for s in lost if s)}):
        known: Agreement | None = choice.agreements.get(subject)
        other, between = near.get(subject, ("", nan))
        people.append(
            Person(
                subject,
                splits.get(subject, ""),
                kept[subject],
                lost[subject],
                known.level if known else nan,
                known.strangers if known else nan,
                known.limit if known else nan,
                known.by if known else "",
                other,
                between,
            )
        )
    return people


def _sheet(
    report: Report, portrait: Callable[[int], Portrait]
) -> list[tuple[str, list[tuple[Mapping[str, Any], str]]]]:
    """Thumbnails of kept crops by subject, spread over the subjects if there are too many."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(report.rows):
        groups.setdefault(row["subject_id"], []).append(i)
    each = max(2, SHOWN // max(len(groups), 1))
    chosen = list(groups.items())[: max(1, SHOWN // min(each, SHOWN))]
    return [
        (subject, [(report.rows[i], thumbnail(portrait(i).image, subject)) for i in own[:each]])
        for subject, own in chosen
    ]


def _spread(items: Sequence[Dropped], limit: int) -> list[Dropped]:
    """At most so many items, some for every reason."""
    groups: dict[str, list[Dropped]] = {}
    for one in items:
        groups.setdefault(one.reason, []).append(one)
    each = max(1, limit // max(len(groups), 1))
    return [one for own in groups.values() for one in own[:each]]


def _thumbnail_of_dropped(one: Dropped) -> str:
    """The thumbnail of a dropped photo, empty where it cannot be read."""
    if one.source is None:
        return ""
    try:
        return thumbnail(one.source.image.read(), one.name)
    except LikenessError:
        return ""


def thumbnail(data: bytes, name: str) -> str:
    """An image file as a small WebP data URI; raises ``LikenessError`` where it cannot be read."""
    image = Image.fromarray(read_picture(data, name, _SIDE).pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()

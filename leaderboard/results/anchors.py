"""The rows of a board that are no method: what methods are read against.

Two of them show photos of the subject and bound what a method can reach. The other two come from the base model alone
and say what it can do without a method. The ceiling and the floor are the scale of the columns that compare with them,
so no board is without a ceiling, and none that has a base model without a floor. The others are n/a where they cannot
be made.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

METHOD = "method"


@dataclass(frozen=True)
class Anchor:
    """One such row. ``note`` stands behind its label in tables, ``about`` says what it is in half a sentence."""

    kind: str
    label: str
    note: str
    about: str
    takes: str = ""
    """What it cannot be made without; empty for one that every evaluation can make."""
    shows_photo: bool = False
    """Whether its images are held-out photos of the subject. Each is judged against the others, and answers no prompt
    and no noise."""
    required: bool = False
    """Whether there is no table where it failed."""


CEILING = Anchor(
    "ceiling", "real-photo", "ceiling", "another real photo of the subject", shows_photo=True, required=True
)
RECONSTRUCTION = Anchor(
    "reconstruction",
    "reconstruction",
    "through the VAE",
    "the ceiling's photo through the base model's autoencoder",
    takes="a base model",
    shows_photo=True,
)
DESCRIBED = Anchor(
    "described",
    "described",
    "in words",
    "the base model told in words what the subject looks like",
    takes="a base model, and the column subject_text for every subject",
)
FLOOR = Anchor(
    "floor", "prompt-only", "floor", "the base model without the subject", takes="a base model", required=True
)
ANCHORS = {anchor.kind: anchor for anchor in (CEILING, RECONSTRUCTION, DESCRIBED, FLOOR)}
"""By kind, in the order of the rows: photos stand above the methods, what saw no photo below them."""
KINDS = (
    *(kind for kind, anchor in ANCHORS.items() if anchor.shows_photo),
    METHOD,
    *(kind for kind, anchor in ANCHORS.items() if not anchor.shows_photo),
)
"""Every kind of row, in the order of the rows."""
LABELS = frozenset(anchor.label for anchor in ANCHORS.values())
"""Labels that no run may have."""
GIVEN = frozenset(anchor.label for anchor in ANCHORS.values() if not anchor.shows_photo)
"""Those under which folders of images may be given where no base model makes them. Whose photo an image shows, and
which one, only we know."""


def shows_photo(kind: str) -> bool:
    """Whether the images of a row of this kind are held-out photos."""
    return kind in ANCHORS and ANCHORS[kind].shows_photo


def is_required(kind: str) -> bool:
    """Whether there is no table without the row of this kind."""
    return kind in ANCHORS and ANCHORS[kind].required


def kind_of(label: str) -> str:
    """The kind of a row that is given under ``label``."""
    return next((kind for kind, anchor in ANCHORS.items() if anchor.label == label), METHOD)


def on_absent(kinds: Collection[str]) -> Iterator[str]:
    """A sentence without its full stop for each row that a board, whose rows have these kinds, lacks and may lack."""
    for kind, anchor in ANCHORS.items():
        if kind not in kinds and not anchor.required:
            yield f"{anchor.label}, {anchor.about}, is n/a: it takes {anchor.takes}"

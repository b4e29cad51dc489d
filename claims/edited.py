"""What edits of a W+ code, identity's strength and its delay do to the images of test subjects."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from claims.head_pose import PoseReader
from lightning_modules.pidiff import PIDiff
from metrics.functional.edit_change import HEAD, edit_change
from metrics.regions import person_region
from tools.edit_faces.editor import Editor, Person
from tools.edit_faces.edits import draw_codes

PROMPT = "a photo of a <subject>, in a garden"
REWORDED = "a photo of a <subject>, in a red shirt, in a garden"
"""What :data:`PROMPT` says, and a word about the clothes."""
Values = NDArray[np.float64]
Edit = Callable[[Tensor, Tensor], Tensor]
"""(own code, next subject's code), each (rows, width), to the code that is drawn."""


@dataclass(frozen=True)
class Shown:
    """What each subject's samples show on average, (S,); NaN where none of them can be measured. Changes are to the
    image that each one is compared with, in 0..1.

    ``identity`` is the cosine to the subject's other photos (misses 0), ``inside`` and ``outside`` the change of the
    head and of the rest, ``colour`` the change of the head's mean colour, ``turn`` by how many degrees the
    head turned.
    """

    identity: Values
    inside: Values
    outside: Values
    colour: Values
    turn: Values

    def mean(self, name: str) -> float:
        """The mean over the subjects that have a value; NaN if none has."""
        known = getattr(self, name)[np.isfinite(getattr(self, name))]
        return float(known.mean()) if len(known) else float("nan")


class Stage:
    """The test subjects, their codes, and noise that is the same for everything that is compared."""

    def __init__(self, editor: Editor, people: Sequence[Person], samples: int, poses: PoseReader) -> None:
        self.editor, self.people, self.samples, self.poses = editor, list(people), samples, poses
        self.codes = [editor.code(person) for person in people]

    def draw(self, run: PIDiff, edit: Edit, prompt: str = PROMPT) -> NDArray[np.uint8]:
        """Images (S * samples, H, W, 3), subject by subject."""
        images = []
        for i, person in enumerate(self.people):
            code = edit(self.codes[i], self.codes[(i + 1) % len(self.codes)])[None]
            keys = [("claim", person.id, sample) for sample in range(self.samples)]
            images += [draw_codes(run, code, prompt, person.noun, key) for key in keys]
        return np.concatenate(images)

    def show(self, images: NDArray[np.uint8], base: NDArray[np.uint8], whose: int = 0) -> Shown:
        """Measure ``images`` against ``base``; identity is that of the person ``whose`` places further on."""
        before, after = self.editor.faces.judge(base), self.editor.faces.judge(images)
        people = [
            p for i in range(len(self.people)) for p in [self.people[(i + whose) % len(self.people)]] * self.samples
        ]
        found = {name: np.full(len(images), np.nan) for name in Shown.__dataclass_fields__}
        found["identity"][:] = [float(e @ p.gallery) for e, p in zip(after.embeddings, people, strict=True)]
        for i in np.flatnonzero(before.found):
            found["inside"][i], found["outside"][i] = edit_change(base[i], images[i], before.boxes[i])
            found["colour"][i] = _colour_change(base[i], images[i], before.boxes[i])
        both = before.found & after.found
        if both.any():
            found["turn"][both] = self.poses.turn(before.landmarks[both], after.landmarks[both])
        return Shown(**{name: _by_subject(values, self.samples) for name, values in found.items()})


def _by_subject(values: Values, samples: int) -> Values:
    """Means (S,) of the finite ones among (S * samples,) values; NaN where there is none."""
    rows = values.reshape(-1, samples)
    known = np.isfinite(rows)
    sums, counts = np.where(known, rows, 0.0).sum(axis=1), known.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _colour_change(before: NDArray[np.uint8], after: NDArray[np.uint8], box: NDArray[np.floating]) -> float:
    head = person_region(box, before.shape[0], before.shape[1], HEAD)
    return float(np.abs(before[head].mean(axis=0) - after[head].mean(axis=0)).mean() / 255)


@contextmanager
def settings(run: PIDiff, scale: float = 1.0, delay: float = 0.0) -> Iterator[None]:
    """Another strength or delay of identity inside the block."""
    before = run.scale, run.delay
    run.scale, run.delay = scale, delay
    try:
        yield
    finally:
        run.scale, run.delay = before


def unchanged(own: Tensor, other: Tensor) -> Tensor:
    """No edit."""
    return own


def of_rows(first: int, last: int, norm_of: tuple[int, int] | None = None) -> Edit:
    """Take these rows of the other person; with ``norm_of`` the step is as long as taking those rows would be."""

    def edit(own: Tensor, other: Tensor) -> Tensor:
        step = other - own
        reach = 1.0
        if norm_of is not None:
            reach = float(step[norm_of[0] : norm_of[1]].norm() / step[first:last].norm().clamp(min=1e-12))
        changed = own.clone()
        changed[first:last] += reach * step[first:last]
        return changed

    return edit
